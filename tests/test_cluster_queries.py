from collections import Counter

import pytest
import torch
from shared_data import shared_data
from tiny_pack import tiny_clips

from pipelines.data.cluster_queries import cluster_queries, published
from pipelines.data.scenes import is_well_seen
from pipelines.data.spec import CLASSES, CLUSTER_OF
from pipelines.errors import InputError
from pipelines.metrics.clip_score import clip_score
from pipelines.metrics.simplified_frechet import csfid, sfid


def classes_of(query):
    return query.source.things[0].class_name, query.target.things[0].class_name


def test_every_target_has_sources_of_its_cluster_in_both_halves():
    halves = {half: cluster_queries(48, 3, half) for half in ("dev", "test")}
    for queries in halves.values():
        assert Counter(classes_of(q)[1] for q in queries) == Counter(CLASSES + CLASSES)
    scenes = [query.source for queries in halves.values() for query in queries]
    assert len(set(scenes)) == 96
    for query in halves["dev"][:12]:
        source, target = classes_of(query)
        assert CLUSTER_OF[source] == CLUSTER_OF[target]
        assert source != target
        assert source in query.source_text
        assert target in query.target_text
        assert is_well_seen(query.source) and is_well_seen(query.target)
        assert query.source.place == query.target.place
        assert query.source.things[0].x == query.target.things[0].x


def test_queries_depend_on_the_seed_and_not_on_how_many_are_drawn():
    four = cluster_queries(4, 1, "test")
    assert cluster_queries(6, 1, "test")[:4] == four
    assert cluster_queries(4, 2, "test") != four


def test_published_queries_are_read():
    rows = published(shared_data("flexit/queries.csv"))
    assert len(rows) == 2184
    assert Counter(row.is_test for row in rows) == {True: 1092, False: 1092}
    assert all(row.path.endswith(".JPEG") and row.source != row.target for row in rows)
    assert len({row.target for row in rows}) == 273


def test_another_table_is_refused(tmp_path):
    table = tmp_path / "other.csv"
    table.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"other\.csv.*SemanticImageTranslation"):
        published(table)


def test_distances_of_means_by_class_and_in_all():
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 1.0]])
    references = {"cat": torch.tensor([[1.0, 1.0], [1.0, 3.0]]), "dog": torch.tensor([[5.0, 4.0]])}
    assert csfid(features, ["cat", "cat", "dog"], references) == pytest.approx((4 + 9) / 2)
    assert sfid(features, features.flip(0)) == 0
    assert sfid(features[:2], references["cat"]) == pytest.approx(4)


def test_clip_score_is_a_clamped_cosine(tmp_path):
    clip = tiny_clips(tmp_path)["clip_vit"]
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    texts = ["a cat", "a dog", "a red car", "a pine"]
    scores = clip_score(clip, images, texts)
    image, text = clip.embed_images(images[2:3]), clip.embed_texts(texts[2:3])
    cosine = torch.nn.functional.cosine_similarity(image, text).item()
    assert scores[2].item() == pytest.approx(2.5 * max(cosine, 0), abs=1e-5)
    assert (scores >= 0).all()
