"""`ppdl artifact inspect`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ppdl.cli.table import print_table

if TYPE_CHECKING:
    from ppdl.crypto.artifact.header import Header

IN_THE_CLEAR = "number and size of the images, kind and length of the key, time of writing; labels are kept elsewhere, in the clear"


@click.command(short_help="Show what ARTIFACT holds and reveals.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(artifact: Path, as_json: bool) -> None:
    """Show what ARTIFACT holds, how large it is, and what it reveals. Reads the header alone; `ppdl artifact verify` checks the rest.

    \b
    ppdl artifact inspect data/encrypted/deterministic
    ppdl artifact inspect data/encrypted/deterministic --json | jq .key.fingerprint
    """
    from ppdl.crypto.artifact.reading import open_artifact

    header = open_artifact(artifact).header
    if as_json:
        click.echo(json.dumps(describe(header), indent=2))
    else:
        _print_table(str(artifact), describe(header))


def describe(header: "Header") -> dict[str, Any]:
    """Give the header without its long lists, with what follows from it."""
    from dataclasses import asdict

    from ppdl.crypto.artifact.header import FORMAT, KINDS

    fields = asdict(header)
    del fields["shards"], fields["canary"]
    pixels = header.source.num_images * header.source.height * header.source.width
    return {
        "format": FORMAT,
        **fields,
        "num_shards": len(header.shards),
        "total_bytes": header.total_bytes,
        "bytes_per_pixel": header.total_bytes / pixels,
        "reveals": KINDS[header.kind].reveals,
        "in_the_clear": IN_THE_CLEAR,
        "authenticated": False,
    }


def _print_table(title: str, content: dict[str, Any]) -> None:
    key, source, packing = content["key"], content["source"], content["packing"]
    weak = " (insecure length, for tests only)" if key["key_bits"] < 2048 else ""
    rows = {
        "format, kind": f"{content['format']}, {content['kind']}",
        "protection": f"{content['protection']['name']} {json.dumps(content['protection']['params'])}",
        "confidential": "yes" if content["confidential"] else "no",
        "reason": content["reason"],
        "reveals": content["reveals"],
        "in the clear": content["in_the_clear"],
        "authenticated": "no: digests find damage, not forgery; Paillier ciphertexts can be changed with the public key",
        "images": f"{source['num_images']} of {source['height']} x {source['width']} px",
        "key": f"{key['key_bits']} bits{weak}, {key['obfuscator']} obfuscators",
        "fingerprint": key["fingerprint"],
        "ciphertexts": f"{content['num_ciphertexts']} of {content['ciphertext_bytes']} bytes",
        "packing": "a codebook row a pixel" if packing is None else ", ".join(f"{name} {value}" for name, value in packing.items()),
        "size": f"{content['total_bytes']:,} bytes in {content['num_shards']} shards, {content['bytes_per_pixel']:.3f} bytes a pixel",
    }
    print_table(title, ["", "what the header says"], rows.items(), right=())
