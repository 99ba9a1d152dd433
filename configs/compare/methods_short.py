"""As ``methods.py``, at 64 pixels and for two epochs: three seeds in hours where that one takes days."""

base = "methods"

_small = ["view.size=64", "view.resize=64"]
for _row in backbones.values():
    if "train" in _row:
        _row.update(overrides=[*_row.get("overrides", ()), *_small, "epochs=2"])
    elif "initialize" in _row:
        _row.update(size=64)
# The decoder doubles its map four times, to the photo's size.
for _name in ("inpainting", "inpainting_kmeans"):
    backbones[_name]["overrides"] += ["method.map_size=4"]
# The last epoch is the one that counts.
stages["linear-probe"].update(overrides=[*_small, "epochs=3", "evaluations=1"])
