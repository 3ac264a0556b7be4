"""The default domain on a second and a half of real footage, logged to a real MLflow."""

from video_files import talking_face, write_video

from svgan.images.domain import Domain
from sweeps.tracking.client import open_experiment
from sweeps.tracking.domain_run import log_domain


def test_frames_beside_reconstructions_are_logged_with_figures(tmp_path):
    footage = write_video(tmp_path / "short.mkv", talking_face(0, 40))
    client, experiment = open_experiment(f"sqlite:///{tmp_path}/mlflow.db", "svgan")
    run, figures = log_domain(client, experiment, Domain.load(), footage, every=1)
    assert figures["frames"] == 4  # the last tenth
    assert figures["psnr_face"] > 25
    assert figures["identity"] < 0.6
    logged = client.get_run(run)
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics["psnr_face"] == figures["psnr_face"]
    assert [a.path for a in client.list_artifacts(run)] == ["frames_above_reconstructions.png"]
