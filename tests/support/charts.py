"""Small charts as files, and packed."""

from __future__ import annotations

from pipeline_steps.charts import archive
from pipeline_steps.charts.archive import Archive


def files(
    name: str = "hello", version: str = "1.0.0", *, more: str = "", **extra_files: str
) -> dict[str, bytes]:
    """A chart that renders one config map; others: file name with __ for / and _ for . → text."""
    chart = f"apiVersion: v2\nname: {name}\nversion: {version}\n{more}"
    texts = {
        "Chart.yaml": chart,
        "values.yaml": "greeting: hello  # said to everybody\n"
        "image:\n  repository: example.com/hello\n  tag: none\n",
        "templates/greeting.yaml": GREETING,
        **{key.replace("__", "/").replace("_", "."): text for key, text in extra_files.items()},
    }
    return {key: text.encode() for key, text in texts.items()}


def packed(name: str = "hello", version: str = "1.0.0", **more: str) -> Archive:
    return archive.pack(files(name, version, **more))


def signed(chart: Archive, by: str = "nobody") -> bytes:
    """A .prov file as helm makes it, but for the signature, which is none."""
    text = f"name: {chart.name}\nversion: {chart.version}\n\n...\nfiles:\n  {chart.file_name}: {chart.digest}\n"
    head, tail = (
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n",
        "-----BEGIN PGP SIGNATURE-----\n",
    )
    return f"{head}{text}{tail}\n{by}\n-----END PGP SIGNATURE-----\n".encode()


GREETING = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-{{ .Chart.Name }}
data:
  greeting: {{ .Values.greeting | quote }}
  image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
"""
