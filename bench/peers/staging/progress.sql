SELECT sum(next_offset) FROM offsets
