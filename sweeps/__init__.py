"""Sweeps: a study is a file, a trial is a Ray Train run inside Ray Tune, a champion is a model in MLflow.

The room's order of reading: `study` (what a study is and how it runs), `plan` (its settings), `search` (who proposes
and who stops), `trial` and `worker` (one trial), `tracking` and `registry` (MLflow), `guard` (what keeps a sweep from
hanging), `table` and `plots` (what is seen).
"""
