"""Annotations of labelling tools (COCO, LabelMe, YOLO, CVAT, Label Studio), drawn as masks."""
