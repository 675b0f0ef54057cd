import numpy as np
import pytest
import torch
from test_training import CPU, options
from transformers import SegformerForSemanticSegmentation

from pipelines.benchmarks import face_parser as benchmark
from pipelines.data.faces import PARTS
from pipelines.models.face_parser import FaceParser
from pipelines.models.segmenter import SceneSegmenter, Segmenter
from pipelines.training import face_data, face_parser
from pipelines.training.segmentation import label_loss, untrained


class Fixed(torch.nn.Module):
    """A network that sees the same class map in every picture."""

    def __init__(self, names, classes):
        super().__init__()
        self.config = SegformerForSemanticSegmentation.config_class(
            id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}
        )
        self.classes = classes

    def forward(self, images):
        logits = torch.nn.functional.one_hot(self.classes, len(self.config.id2label))
        logits = logits.permute(2, 0, 1).float().expand(len(images), -1, -1, -1)
        return type("Output", (), {"logits": logits})


def test_labels_are_found_by_name_in_any_order():
    classes = torch.tensor([[0, 1, 2, 3]]).repeat(4, 1)
    one = FaceParser(Fixed(["background", "nose", "l_eye", "r_eye"], classes))
    other = FaceParser(Fixed(["background", "r_eye", "nose", "l_eye"], classes))
    assert one.parts == ("nose", "eyes")
    assert other.parts == ("eyes", "nose")
    images = torch.zeros(2, 3, 4, 4)
    assert one.part_masks(images, "nose")[1, 0].tolist() == [0, 1, 0, 0]
    assert one.part_masks(images, "eyes")[0, 0].tolist() == [0, 0, 1, 1]
    assert other.part_masks(images, "nose")[0, 0].tolist() == [0, 0, 1, 0]
    assert other.part_masks(images, "eyes")[0, 0].tolist() == [0, 1, 0, 1]
    with pytest.raises(KeyError):
        one.part_masks(images, "l_eye")


def test_parser_trains_two_steps_opens_and_is_measured(tmp_path, capsys):
    (tmp_path / "faces").mkdir()
    face_data.render_chunk(tmp_path / "faces", 0, 6)
    out = tmp_path / "parser"
    face_parser.main(options(tmp_path, out, 2))
    parser = FaceParser.from_folder(out, CPU)
    assert parser.parts == PARTS[1:]
    assert parser(torch.zeros(2, 3, 128, 128)).shape == (2, len(PARTS), 128, 128)
    assert isinstance(parser, Segmenter)
    assert not isinstance(parser, SceneSegmenter)
    benchmark.main(["--n", "2", "--parser", str(out)])
    assert "miou" in capsys.readouterr().out


def test_a_perfect_parser_has_no_loss_at_either_stride():
    source = np.random.default_rng(0)
    for stride in (2, 4):
        cells = torch.from_numpy(source.integers(3, size=(32 // stride, 32 // stride)))
        wanted = cells.repeat_interleave(stride, 0).repeat_interleave(stride, 1)[None]

        class Sure(Fixed):
            def forward(self, images):
                output = super().forward(images)
                output.logits = 50 * output.logits
                return output

        parser = FaceParser(Sure(["background", "nose", "hair"], cells))
        assert label_loss(parser, torch.zeros(1, 3, 32, 32), wanted).item() < 1e-6
        assert label_loss(parser, torch.zeros(1, 3, 32, 32), (wanted + 1) % 3).item() > 10


@pytest.mark.parametrize("stride", [2, 4])
def test_the_logits_have_the_stride_that_is_asked_for(stride):
    network = untrained(("nose",), stride=stride)
    assert network(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 2, 64 // stride, 64 // stride)
