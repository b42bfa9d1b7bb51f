"""AlexNet, VGG, SqueezeNet, ResNet, DenseNet, U-Net."""

from __future__ import annotations

from _blocks import classifier, conv_bn, image

from spm_opt.graph.builder import Handle, NetworkBuilder


def alexnet(b: NetworkBuilder) -> None:
    """Krizhevsky et al. 2012, two groups, 227x227, names as in Caffe; without the local response
    normalisations, which no later network kept."""
    x = image(b, 227)
    x = b.relu(b.conv(x, 96, 11, 4, name="conv1"), name="relu1")
    x = b.max_pool(x, 3, 2, name="pool1")
    x = b.relu(b.conv(x, 256, 5, padding=2, groups=2, name="conv2"), name="relu2")
    x = b.max_pool(x, 3, 2, name="pool2")
    x = b.relu(b.conv(x, 384, 3, padding=1, name="conv3"), name="relu3")
    x = b.relu(b.conv(x, 384, 3, padding=1, groups=2, name="conv4"), name="relu4")
    x = b.relu(b.conv(x, 256, 3, padding=1, groups=2, name="conv5"), name="relu5")
    x = b.flatten(b.max_pool(x, 3, 2, name="pool5"), name="flatten")
    x = b.relu(b.linear(x, 4096, name="fc6"), name="relu6")
    x = b.relu(b.linear(x, 4096, name="fc7"), name="relu7")
    b.output(b.linear(x, 1000, name="fc8"))


def _vgg(b: NetworkBuilder, convs: tuple[int, ...]) -> None:
    x, index = image(b, 224), 0
    for count, channels in zip(convs, (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            x = b.conv(x, channels, 3, padding=1, name=f"features.{index}")
            x = b.relu(x, name=f"features.{index + 1}")
            index += 2
        x = b.max_pool(x, 2, name=f"features.{index}")
        index += 1
    x = b.flatten(x, name="flatten")
    x = b.relu(b.linear(x, 4096, name="classifier.0"), name="classifier.1")
    x = b.relu(b.linear(x, 4096, name="classifier.3"), name="classifier.4")
    b.output(b.linear(x, 1000, name="classifier.6"))


def vgg16(b: NetworkBuilder) -> None:
    """Simonyan and Zisserman 2014, configuration D, torchvision's names."""
    _vgg(b, (2, 2, 3, 3, 3))


def vgg19(b: NetworkBuilder) -> None:
    """Simonyan and Zisserman 2014, configuration E (VGGNet-E), torchvision's names."""
    _vgg(b, (2, 2, 4, 4, 4))


def _fire(b: NetworkBuilder, x: Handle, name: str, squeeze: int, expand: int) -> Handle:
    x = b.conv(x, squeeze, 1, name=f"{name}.squeeze")
    x = b.relu(x, name=f"{name}.squeeze_activation")
    one = b.conv(x, expand, 1, name=f"{name}.expand1x1")
    one = b.relu(one, name=f"{name}.expand1x1_activation")
    three = b.conv(x, expand, 3, padding=1, name=f"{name}.expand3x3")
    three = b.relu(three, name=f"{name}.expand3x3_activation")
    return b.concat((one, three), name=f"{name}.cat")


def squeezenet1_1(b: NetworkBuilder) -> None:
    """Iandola et al. 2016, version 1.1, torchvision's names."""
    x = b.relu(b.conv(image(b, 224), 64, 3, 2, name="features.0"), name="features.1")
    fires = {
        2: None, 3: (16, 64), 4: (16, 64), 5: None, 6: (32, 128), 7: (32, 128), 8: None,
        9: (48, 192), 10: (48, 192), 11: (64, 256), 12: (64, 256),
    }  # fmt: skip
    for index, fire in fires.items():
        name = f"features.{index}"
        if fire is None:
            x = b.max_pool(x, 3, 2, ceil_mode=True, name=name)
        else:
            x = _fire(b, x, name, *fire)
    x = b.relu(b.conv(x, 1000, 1, name="classifier.1"), name="classifier.2")
    b.output(b.flatten(b.global_avg_pool(x, name="classifier.3"), name="flatten"))


def _numbered(number: int) -> tuple[str, str, str]:
    return (f".conv{number}", f".bn{number}", f".relu{number}")


_SHORTCUT = (".downsample.0", ".downsample.1", "")


def basic_block(b: NetworkBuilder, x: Handle, name: str, width: int, stride: int) -> Handle:
    y = conv_bn(b, x, name, width, 3, stride, parts=_numbered(1))
    y = conv_bn(b, y, name, width, 3, act=None, parts=_numbered(2))
    return _residual(b, x, y, name, stride)


def _bottleneck(b: NetworkBuilder, x: Handle, name: str, width: int, stride: int) -> Handle:
    y = conv_bn(b, x, name, width, 1, parts=_numbered(1))
    # version 1.5: the stride is on the 3x3 convolution
    y = conv_bn(b, y, name, width, 3, stride, parts=_numbered(2))
    y = conv_bn(b, y, name, 4 * width, 1, act=None, parts=_numbered(3))
    return _residual(b, x, y, name, stride)


def _residual(b: NetworkBuilder, x: Handle, y: Handle, name: str, stride: int) -> Handle:
    if x.shape != y.shape:
        x = conv_bn(b, x, name, y.shape[1], 1, stride, act=None, parts=_SHORTCUT)
    return b.relu(b.add(y, x, name=f"{name}.add"), name=f"{name}.relu")


def _resnet(b: NetworkBuilder, counts: tuple[int, ...], bottleneck: bool) -> None:
    x = conv_bn(b, image(b, 224), "", 64, 7, 2, parts=("conv1", "bn1", "relu"))
    x = b.max_pool(x, 3, 2, 1, name="maxpool")
    block = _bottleneck if bottleneck else basic_block
    for stage, count in enumerate(counts):
        for i in range(count):
            stride = 2 if stage > 0 and i == 0 else 1
            x = block(b, x, f"layer{stage + 1}.{i}", 64 << stage, stride)
    classifier(b, x, "fc")


def resnet18(b: NetworkBuilder) -> None:
    """He et al. 2015, torchvision's names."""
    _resnet(b, (2, 2, 2, 2), bottleneck=False)


def resnet50(b: NetworkBuilder) -> None:
    """He et al. 2015, version 1.5 (stride on the 3x3 convolution), torchvision's names."""
    _resnet(b, (3, 4, 6, 3), bottleneck=True)


def resnet101(b: NetworkBuilder) -> None:
    """He et al. 2015, version 1.5 (stride on the 3x3 convolution), torchvision's names."""
    _resnet(b, (3, 4, 23, 3), bottleneck=True)


def _dense_layer(b: NetworkBuilder, x: Handle, name: str) -> Handle:
    y = b.relu(b.batch_norm(x, name=f"{name}.norm1"), name=f"{name}.relu1")
    y = b.conv(y, 128, 1, bias=False, name=f"{name}.conv1")
    y = b.relu(b.batch_norm(y, name=f"{name}.norm2"), name=f"{name}.relu2")
    y = b.conv(y, 32, 3, padding=1, bias=False, name=f"{name}.conv2")
    return b.concat((x, y), name=f"{name}.cat")


def densenet121(b: NetworkBuilder) -> None:
    """Huang et al. 2016, torchvision's names; each dense layer joins its features to all before."""
    parts = ("conv0", "norm0", "relu0")
    x = conv_bn(b, image(b, 224), "features.", 64, 7, 2, parts=parts)
    x = b.max_pool(x, 3, 2, 1, name="features.pool0")
    for block, count in enumerate((6, 12, 24, 16), start=1):
        if block > 1:
            name = f"features.transition{block - 1}"
            x = b.relu(b.batch_norm(x, name=f"{name}.norm"), name=f"{name}.relu")
            x = b.conv(x, x.shape[1] // 2, 1, bias=False, name=f"{name}.conv")
            x = b.avg_pool(x, 2, name=f"{name}.pool")
        for i in range(1, count + 1):
            x = _dense_layer(b, x, f"features.denseblock{block}.denselayer{i}")
    x = b.relu(b.batch_norm(x, name="features.norm5"), name="relu")
    classifier(b, x, "classifier")


def _double_conv(b: NetworkBuilder, x: Handle, name: str, channels: int) -> Handle:
    x = b.relu(b.conv(x, channels, 3, padding=1, name=f"{name}.conv1"), name=f"{name}.relu1")
    return b.relu(b.conv(x, channels, 3, padding=1, name=f"{name}.conv2"), name=f"{name}.relu2")


def unet(b: NetworkBuilder) -> None:
    """Ronneberger et al. 2015: 64 to 1024 channels, four levels, 256x256 grey image, two classes;
    convolutions padded so that the skipped maps need no cropping."""
    x = image(b, 256, channels=1)
    skipped = []
    for level in range(4):
        x = _double_conv(b, x, f"down{level + 1}", 64 << level)
        skipped.append(x)
        x = b.max_pool(x, 2, name=f"down{level + 1}.pool")
    x = _double_conv(b, x, "bottom", 1024)
    for level in reversed(range(4)):
        name = f"up{level + 1}"
        x = b.conv_transpose(x, 64 << level, 2, 2, name=f"{name}.upconv")
        x = b.concat((skipped[level], x), name=f"{name}.cat")
        x = _double_conv(b, x, name, 64 << level)
    b.output(b.conv(x, 2, 1, name="head"))


MODELS = (
    alexnet, vgg16, vgg19, squeezenet1_1, resnet18, resnet50, resnet101, densenet121, unet,
)  # fmt: skip
