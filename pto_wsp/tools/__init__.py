"""Programs that use pto_wsp as anybody would, and what they and the examples share."""
