"""The table of `python -m course evaluate`, from a pipeline whose pictures are known."""

from parts import Identity, exact_pipeline

from course import pipeline
from course.data.scenes import render
from course.metrics import captions
from course.pipeline import command


def test_a_pipeline_is_evaluated(monkeypatch, capsys):
    """It draws the scene of the second question whatever is asked for."""
    cells = [("test", 1), ("new_relations", 2)]
    monkeypatch.setattr(command, "CELLS", cells)
    questions = captions.questions("test", 1, 5)
    latent = 2 * render([questions[1].scene]).double()
    autoencoder = Identity(2.0)
    ours = exact_pipeline(lambda *_: latent, autoencoder, sample_size=32, max_length=200)
    calls, once = [], type(ours).__call__

    def call(self, prompts, **options):
        calls.append((len(prompts), options))
        return once(self, prompts, **options)

    monkeypatch.setattr(type(ours), "__call__", call)
    monkeypatch.setattr(pipeline, "load", lambda name: {"mine": ours}[name])
    command.evaluate("mine", each=5, steps=2, guidance_scale=1.5, seed=3)
    options = {"steps": 2, "guidance_scale": 1.5, "seed": 3, "progress": False}
    assert calls == [(5, options)] * 2
    lines = capsys.readouterr().out.splitlines()[-3:]
    right = sum(captions.holds(q.meaning, questions[1].scene) for q in questions)
    assert 1 <= right < 5
    one, two = (line.split() for line in lines[1:])
    assert one[:4] == ["test", "1", "5", f"{right / 5:.1%}"]
    assert two[:4] == ["new_relations", "2", "5", "0.0%"]
    assert one[-2:] == two[-2:] == ["0.0%", "100.0%"]
