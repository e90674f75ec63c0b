"""The server's side of a run: it adds what it cannot read."""

from __future__ import annotations

import dataclasses

from ppdl.errors import ArtifactError
from ppdl.pooling.board import Board, add_released, write_rows
from ppdl.pooling.statements import Tally, check_contributors, commitments_sha256, read_commitments
from ppdl.pooling.terms import Terms


def add_contributions(board: Board, terms: Terms) -> Tally:
    """Add the ciphertexts of the hospitals that released them, and write sum and tally for these to sign.

    A hospital that is committed and does not come is left out: who is in the sum is decided here, before it is opened.

    Raises:
        ArtifactError: a commitment is missing, released ciphertexts are not those that were committed to, or fewer than 3 came.
        ConfigError: so few films came that their total would tell who is among them.
        CryptoError: a row is no ciphertext of the run's key.

    Cost: a product mod n^2 for each hospital and ciphertext.
    """
    commitments = read_commitments(board.commitments, terms)
    came = {name: commitment.ciphertexts_sha256 for name, commitment in commitments.items() if board.ciphertexts(name).exists()}
    tally = Tally(terms.digest, commitments_sha256(commitments), came, "")
    check_contributors(tally, terms, commitments)
    if board.tallies.exists() and any(board.tallies.iterdir()):
        signed = board.read_tally()
        if signed.contributors != came:
            raise ArtifactError("contributors signed a tally of this run already, and one is signed a run: wait for the missing signatures")
        return signed
    total, sha256 = add_released(board, terms, tally)
    tally = dataclasses.replace(tally, sum_sha256=sha256)
    write_rows(board.sum, total)
    board.write_tally(tally)
    return tally
