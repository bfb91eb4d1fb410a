"""What tools/run_grid.py is made of: the spec and its rows, the runner, paired statistics, the report and its plots.
Python's standard library only: the tool runs on a bare machine.
"""
