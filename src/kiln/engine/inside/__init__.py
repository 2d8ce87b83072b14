"""The fork server: what runs inside a build root, under its own Python (3.9, standard library, nothing of Kiln).

One server lives in a sandbox for each build root. For each stage it forks a process that makes a sandbox of its own,
as tight as the server's and without a way to it, and runs the stage's program with an interpreter that is already
there. The other side is kiln.engine.execution.forkserver.
"""
