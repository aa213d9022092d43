-- Caller: whoever checks the network. One row a claim about two nodes: its layer of evidence, effect, interval and rung.
SELECT
    layer,
    kind,
    within,
    source,
    target,
    effect,
    low,
    high,
    unit,
    p_value,
    p_adjusted,
    share,
    rung
FROM edge
ORDER BY layer, kind, within, source, target
