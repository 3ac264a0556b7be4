"""How are files read and written?

Atomic writes, local and remote storage, torch files without running code, video in and out.
"""
