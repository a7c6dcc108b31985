"""Keys and tokens that are derived from a secret of the cluster; imports neither gRPC nor certificates.

Lanes, templates and workers need these and no gRPC, whose import takes as long as that of all else.
`derived_keys.py` derives; `lane_keys.py` has what opens the door of a lane.
"""
