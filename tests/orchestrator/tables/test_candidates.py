"""The table of a search's candidates, by values worked out by hand."""

from __future__ import annotations

from prunesweep.orchestrator.tables.candidates import candidates_table, winners_at_ends
from tests.orchestrator.frames import candidates


def test_a_winner_is_at_an_end_where_nothing_was_tried_beyond_it():
    assert winners_at_ends(candidates([0.5, 0.6, 0.7, 0.8, 0.9])) == ["gmp train.lr 0.5"]
    assert winners_at_ends(candidates([0.9, 0.6, 0.7, 0.8, 0.5])) == ["gmp train.lr 0.1"]
    assert winners_at_ends(candidates([0.5, 0.6, 0.7, 0.9, 0.8])) == []
    assert winners_at_ends(candidates([0.5, 0.6, 0.9])) == [], "of three values one in the end says little"


def test_a_note_says_how_copies_take_part_where_there_are_some():
    plain, copied = (candidates_table(candidates([0.5, 0.9], pruned_loss=loss)).notes for loss in (None, 2.0))
    assert not [note for note in plain if "copy" in note]
    assert [note for note in copied if note.startswith("at a rung two kinds of networks went on, by turns")]
