-- offsets have no gaps here: the last one of each partition tells how many there are
SELECT sum(coalesce((SELECT max(__connect_offset) + 1 FROM landing WHERE __connect_topic = 'events' AND __connect_partition = p), 0)) FROM generate_series(0, 3) p
