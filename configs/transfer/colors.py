"""How good colours are, against the photos they were taken from: the toy world's by default, or any (--data PHOTOS)."""

protocol = "colorization"
data = "toyworld/labeled/val"
photos = "all"
# At most so many photos, spread over all; None for all.
count = None
# Photos are compared as they are (own), or as squares of this side: resized whole (square), or the centre (center).
fit = "own"
size = None

# None is the size that the colorizer was trained at.
network_size = None
decode = "annealed"
# None is the colorizer's own.
temperature = None
# Others that are measured as well: temperatures=0.1,0.38,1
temperatures = ()
upsampling = "bilinear"
# Colours are chosen at the positions of the map, and enlarged (map), or at each pixel of the photo (photo).
decode_at = "map"
# Each photo is given the histograms of its true photo (quantile, energy): rows that know what others do not.
true_histogram = None
# Draws of each photo for the diversity; 0 for none.
samples = 0

# None is ImageNet's; `pretext-transfer prior` makes others.
prior = None
# Classifies the coloured photos if they lie in folders of WordNet ids; None for no classifier. The path of a
# classifier.safetensors classifies photos in the folders that it was trained on.
classifier = "efficientnet_lite0"
classifier_weights = None
classes = None
# Files of weights: torchvision's inception_v3 (or pytorch-fid's) for FID, its alexnet for LPIPS; None leaves them out.
fid_weights = None
lpips_weights = None
# None is what LPIPS 0.1 published.
lpips_linear = None

# Photos in colour from which retrieval and welsh2002 take colours, found by the features of a backbone's layer (None is
# its last convolution); or, for welsh2002, one photo.
gallery = None
retriever = "random:alexnet"
retriever_layer = None
reference = None

# Of a classifier and of a gallery. The maps of few photos stay in the cache of a CPU.
batch_size = 4
workers = 0
