"""The systems that svgan trains: one folder for each. They do not import one another.

Only this file names them all. To add a system, add a folder whose `system.py` defines SYSTEM, and one line here.
"""

from svgan.training import registry

for folder in ("stylevideogan", "mocogan_hd", "stylegan_v"):
    registry.register(f"{__name__}.{folder}.system:SYSTEM")
