"""What all transfer stages share: the job they are given, and the measurements they return."""

#: The stages by their commands: default config, module and function.
STAGES = {
    "linear-probe": ("transfer/stages/linear_probe.py", "transfer.stages.linear_probe", "linear_probe"),
    "voc-classification": (
        "transfer/voc_classification.py",
        "transfer.stages.classification",
        "voc_classification",
    ),
    "voc-svm": ("transfer/voc_svm.py", "transfer.stages.svm", "voc_svm"),
    "voc-detection": ("transfer/voc_detection.py", "transfer.stages.detection", "voc_detection"),
    "voc-segmentation": ("transfer/voc_segmentation.py", "transfer.stages.segmentation", "voc_segmentation"),
}
#: Keys of a stage's config that change no number: an interrupted run may go on with others, and keeps its protocol.
FREE_KEYS = frozenset({"workers", "checkpoint_interval"})
