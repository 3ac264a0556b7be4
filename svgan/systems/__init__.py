"""What is trained, and by which formulas? Each folder is one system. The systems do not know each other.

This is the one file that names them all. A new system is a folder whose `system.py` has a SYSTEM, and a line here.
"""

from svgan.training import registry

for folder in ("stylevideogan", "mocogan_hd", "stylegan_v"):
    registry.register(f"{__name__}.{folder}.system:SYSTEM")
