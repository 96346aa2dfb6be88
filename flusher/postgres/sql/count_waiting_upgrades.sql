SELECT count(*) FROM flusher.upgrades WHERE outcome = 'waiting'
