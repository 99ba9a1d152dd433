"""The toy world: a small rendered data set for trying everything without a download.

Photos show textured objects of ten classes before sky, water, grass and ground, in the layouts of the real
data sets: a folder of unlabeled photos, an ImageFolder, VOC2007 with boxes, VOC2012 with masks. A class is told
by outline and texture, and its colours follow from it; mean lightness tells neither. So to colour well is to
recognise.

Read in this order: `plan` (what there is), `classes` (the table of classes), `scenes` (one photo), `layouts`
(files), `render` (the whole).
"""

from pretext.data.toyworld.classes import TOY_CLASSES
from pretext.data.toyworld.plan import ToyworldSizes
from pretext.data.toyworld.render import MANIFEST, RENDERER_VERSION, render_toyworld

__all__ = ["MANIFEST", "RENDERER_VERSION", "TOY_CLASSES", "ToyworldSizes", "render_toyworld"]
