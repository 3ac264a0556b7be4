"""A model's report page: whole in one file, and what it shows is what was measured."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from made_sampler import made_codes
from PIL import Image

from svgan.errors import UserError
from svgan.latents.manifest import Latents
from svgan.reports import html_page

ONE = {"value": 1.25, "low": 1.0, "high": 1.5, "endless": None, "footage": 0.75}
TOLD = {
    "protocols": {"svg-long": {"name": "svg-long", "clips": 64, "hash": "0123456789ab"}},
    "figures": {
        "fvd_long": ONE,
        "fvd_long_original": {**ONE, "value": 7.0},
        "loops/still": {**ONE, "low": None},
        "loops/phi": {**ONE, "footage": None},
    },
    "warnings": ["64 generated clips < 400 features"],
    "against": {"fvd_long": {"difference": -3.0, "low": -5.0, "high": -1.0, "sure": 0.99, "better": "this"}},
}


class Read(HTMLParser):
    """Tags, words and pictures of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.words, self.pictures, self.asked = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "src" and value.startswith("data:image/"):
                self.pictures.append(Image.open(io.BytesIO(base64.b64decode(value.partition(",")[2]))))
            elif name in ("src", "href", "srcset", "data", "action", "poster"):
                self.asked.append(value)

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def latents(domain, tmp_path_factory) -> Latents:
    return made_codes(domain, [200, 90], tmp_path_factory.mktemp("codes"))


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(html_page, "SECONDS", 0.4)
    monkeypatch.setattr(html_page, "LONG_SECONDS", 1.0)


def test_a_page_is_one_file_that_asks_for_nothing(domain, latents, sampler):
    made = html_page.model_page("a <model>", {"study": "a & b"}, TOLD, sampler, domain, latents)
    assert made == html_page.model_page("a <model>", {"study": "a & b"}, TOLD, sampler, domain, latents)
    found = Read(made)
    assert not found.asked
    assert not {"script", "link", "iframe", "object", "model"} & set(found.tags)
    assert "url(" not in made
    said = " ".join(found.words)
    for word in ("a <model>", "a & b", "64 generated clips < 400 features", "0123456789ab", "1 to 1.5", "-5 to -1"):
        assert word in said, word
    assert "kernel distance" not in said, "what was not measured is not explained"
    phi = made.partition("<b>loops/phi</b>")[2].partition("</tr>")[0]
    assert "so that footage has none" in phi
    assert phi.count('<td class="number">-</td>') == 2, "neither a value for endless clips nor the footage's own"
    moving, ours, theirs, longer, paths, motion = found.pictures
    assert moving.n_frames == 10
    assert moving.width == 4 * 128 + 3 * 4
    assert ours.size == theirs.size
    assert longer.height == 16
    for plot in (paths, motion):
        assert np.asarray(plot.convert("L")).std() > 10


def test_recorded_frames_are_shown_where_they_are_at_hand(domain, latents, sampler):
    frames = np.zeros((len(latents.codes), 16, 16, 3), np.uint8)
    made = Read(html_page.model_page("m", {}, TOLD, sampler, domain, latents, frames=frames))
    theirs = np.asarray(made.pictures[2])
    assert "as recorded" in " ".join(made.words)
    assert set(np.unique(theirs)) == {0, 255}, "black frames, white lines"


def test_footage_too_short_for_long_clips_says_so(domain, sampler, tmp_path):
    made = Read(html_page.model_page("m", {}, TOLD, sampler, domain, made_codes(domain, [60], tmp_path)))
    assert "the longest run of frames" in " ".join(made.words)
    assert len(made.pictures) == 4


def test_the_figures_of_two_protocols_name_their_own():
    protocols = {"svg-short": {"hash": "aaaa"}, "stylegan-v-16": {"hash": "bbbb"}}
    found = {
        name: html_page.protocol_of(name, protocols)
        for name in ("fvd_short_original", "kvd/stylegan-v-16", "loops/still")
    }
    assert [("aaaa" in one, "bbbb" in one) for one in found.values()] == [(True, False), (False, True), (False, False)]


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--report .*: cannot write .*; give another place"):
        html_page.write_page(tmp_path / "file" / "page.html", "")
