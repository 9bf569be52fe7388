"""A miner's own workers: tickets, trainings and searches spread over processes and hosts by Dask; extra ``pool``.

Every task is a function of plain data and seeds, and which result counts is decided by order, never by time: the same
seed and lanes give the same model and ticket whatever the workers, and a worker that dies costs time alone.  Trainings
are float arithmetic, so that holds for them only among machines of one kind.

Workers run what the miner sends them, so all belong to one operator; the key that signs blocks never leaves the miner.
"""
