-- A month's marks, once nobody else has one in hand; from here to the commit nobody sets them anew.
-- $1: the month. In the order in which batches set them.
SELECT site FROM flusher.recounts WHERE month = $1::date ORDER BY site FOR UPDATE
