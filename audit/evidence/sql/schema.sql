-- Caller: store.create_store. Every table of evidence.duckdb; the grain is in the comment above each table.

-- one row a suite; subset is the named part that ran, NULL the whole; a withheld suite's texts are digests here
CREATE TABLE suite (
    suite VARCHAR PRIMARY KEY,
    title VARCHAR NOT NULL,
    domain VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    subset VARCHAR,
    withheld BOOLEAN NOT NULL
);

-- one row a concept
CREATE TABLE concept (
    concept VARCHAR PRIMARY KEY,
    suite VARCHAR NOT NULL,
    domain VARCHAR NOT NULL,
    title VARCHAR NOT NULL,
    frames INTEGER NOT NULL
);

-- one row a trained SAE and a control, with the site that it reads and the one that its output stands for (the same, but
-- for transcoders); role is 'instrument' or 'control'
CREATE TABLE sae (
    sae VARCHAR PRIMARY KEY,
    site VARCHAR NOT NULL,
    target VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    latents INTEGER NOT NULL,
    digest VARCHAR NOT NULL
);

-- one row a mix of two concepts, first and second; in its placebo cells the placebo stands in the second one's place
CREATE TABLE mix (
    mix VARCHAR PRIMARY KEY,
    suite VARCHAR NOT NULL,
    domain VARCHAR NOT NULL,
    title VARCHAR NOT NULL,
    first VARCHAR NOT NULL,
    second VARCHAR NOT NULL,
    placebo VARCHAR NOT NULL
);

-- one row a scenario of a concept or a mix, the sampling unit; number is its place in the suite file
CREATE TABLE scenario (
    scenario VARCHAR PRIMARY KEY,
    concept VARCHAR NOT NULL,
    split VARCHAR NOT NULL,
    number INTEGER NOT NULL
);

-- one row a prompt: a scenario's arm in a frame; of a mix, its cell in an order ('ab' has the first concept's clause in front),
-- and concept is the mix. frame 'outcome' is the question about the scenario. text of a withheld suite is 'withheld:',
-- the SHA-256 of salt and text, ':' and the number of characters
CREATE TABLE prompt (
    prompt INTEGER PRIMARY KEY,
    concept VARCHAR NOT NULL,
    scenario VARCHAR NOT NULL,
    split VARCHAR NOT NULL,
    arm VARCHAR NOT NULL,
    frame VARCHAR NOT NULL,
    text VARCHAR NOT NULL
);

-- one row a prompt of a mix: the position of the first token of its second clause
CREATE TABLE clause_start (
    prompt INTEGER PRIMARY KEY,
    position INTEGER NOT NULL
);

-- one row a token of a prompt; content is false for template tokens. piece of a withheld suite's content is a black square
CREATE TABLE token (
    prompt INTEGER NOT NULL,
    position INTEGER NOT NULL,
    piece VARCHAR NOT NULL,
    content BOOLEAN NOT NULL
);

-- one row a captured prompt and site: token counts, and the residual stream over the kept positions: its mean, its last value,
-- moments
CREATE TABLE residual (
    prompt INTEGER NOT NULL,
    site VARCHAR NOT NULL,
    tokens INTEGER NOT NULL,
    content INTEGER NOT NULL,
    outliers INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    mean FLOAT[] NOT NULL,
    last FLOAT[] NOT NULL,
    sum_squares DOUBLE NOT NULL
);

-- one row a captured prompt and SAE: squared reconstruction error and summed cosine over the kept positions
CREATE TABLE reconstruction (
    prompt INTEGER NOT NULL,
    site VARCHAR NOT NULL,
    sae VARCHAR NOT NULL,
    error DOUBLE NOT NULL,
    cosine DOUBLE NOT NULL
);

-- one row a prompt, SAE and latent that fired in it; max in residual units, positions is a count
CREATE TABLE prompt_feature (
    prompt INTEGER NOT NULL,
    sae VARCHAR NOT NULL,
    latent INTEGER NOT NULL,
    max FLOAT NOT NULL,
    positions INTEGER NOT NULL
);

-- one row a prompt of a mix, SAE and latent that fired in it; sums over the kept tokens of the clause that stands for the first
-- concept and of the one that stands for the second, wherever it is; largest over the whole prompt
CREATE TABLE mix_feature (
    prompt INTEGER NOT NULL,
    sae VARCHAR NOT NULL,
    latent INTEGER NOT NULL,
    first DOUBLE NOT NULL,
    second DOUBLE NOT NULL,
    largest FLOAT NOT NULL
);

-- one row an SAE and latent: on how many kept tokens it fired
CREATE TABLE feature (
    sae VARCHAR NOT NULL,
    latent INTEGER NOT NULL,
    tokens BIGINT NOT NULL,
    max FLOAT NOT NULL
);

-- one row a concept (or 'all') and SAE: latents active at a token, mean and percentiles
CREATE TABLE sparsity (
    sae VARCHAR NOT NULL,
    concept VARCHAR NOT NULL,
    tokens BIGINT NOT NULL,
    l0_mean DOUBLE NOT NULL,
    l0_p05 DOUBLE NOT NULL,
    l0_p95 DOUBLE NOT NULL
);

-- one row an outcome prompt: logits of the two continuations at the last position
CREATE TABLE outcome (
    prompt INTEGER PRIMARY KEY,
    target_logit DOUBLE NOT NULL,
    foil_logit DOUBLE NOT NULL
);

-- one row a spliced prompt and SAE: sums over predicted content tokens, in nats; ablated by the site's mean residual
CREATE TABLE splice (
    prompt INTEGER NOT NULL,
    sae VARCHAR NOT NULL,
    tokens INTEGER NOT NULL,
    ce DOUBLE NOT NULL,
    ce_spliced DOUBLE NOT NULL,
    ce_ablated DOUBLE NOT NULL,
    kl DOUBLE NOT NULL,
    kl_random DOUBLE NOT NULL
);

-- one row a reported feature, concept and contrast; numbers of the confirmation split
CREATE TABLE finding (
    finding VARCHAR PRIMARY KEY,
    concept VARCHAR NOT NULL,
    contrast VARCHAR NOT NULL,
    sae VARCHAR NOT NULL,
    latent INTEGER NOT NULL,
    rung VARCHAR NOT NULL,
    d_z DOUBLE NOT NULL,
    d_z_low DOUBLE,
    d_z_high DOUBLE,
    auroc DOUBLE NOT NULL,
    p_value DOUBLE NOT NULL,
    p_holm DOUBLE NOT NULL,
    p_max_t DOUBLE NOT NULL,
    selected_by BOOLEAN NOT NULL,
    n_scenarios INTEGER NOT NULL,
    lexical VARCHAR NOT NULL
);

-- one row a concept, contrast and SAE: the reading of the pair (probe, SAE)
CREATE TABLE reading (
    concept VARCHAR NOT NULL,
    contrast VARCHAR NOT NULL,
    sae VARCHAR NOT NULL,
    reading VARCHAR NOT NULL,
    tested INTEGER NOT NULL,
    selected INTEGER NOT NULL,
    confirmed INTEGER NOT NULL,
    probe_auroc DOUBLE NOT NULL,
    probe_p_holm DOUBLE NOT NULL
);

-- one row a prompt and exact intervention. part is the concept or mix, asked the concept whose question was put. kind: 'feature',
-- 'pair' or 'error' (the SAE's error taken away). first, second: the latents; first_ceiling, second_ceiling: what they were lowered
-- to, reference whose level that is: 'neutral' or 'control' (arms), '01' or '10' (cells; '01+10' of a pair) or 'zero'. changed is
-- false where nothing was above its ceiling. untouched, outcome: logit of the target minus that of the foil before and after; kl
-- of the next-token distribution, untouched from changed; nats
CREATE TABLE intervention (
    part VARCHAR NOT NULL,
    scenario VARCHAR NOT NULL,
    asked VARCHAR NOT NULL,
    sae VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    reference VARCHAR NOT NULL,
    first INTEGER,
    second INTEGER,
    first_ceiling DOUBLE,
    second_ceiling DOUBLE,
    changed BOOLEAN NOT NULL,
    untouched DOUBLE NOT NULL,
    outcome DOUBLE NOT NULL,
    kl DOUBLE NOT NULL
);

-- one row a scenario, lowered feature and feature of a later SAE: the later one's maximum before and after
CREATE TABLE downstream (
    concept VARCHAR NOT NULL,
    scenario VARCHAR NOT NULL,
    sae VARCHAR NOT NULL,
    latent INTEGER NOT NULL,
    reference VARCHAR NOT NULL,
    downstream_sae VARCHAR NOT NULL,
    downstream_latent INTEGER NOT NULL,
    untouched DOUBLE NOT NULL,
    changed DOUBLE NOT NULL
);

-- one row a claim and sham that was run: mean effect over the named scenarios, on the answer (nats; the interaction, of a pair), or on the
-- maximum of a later SAE's feature where one is named. first, second: the sham's latents, of a pair
CREATE TABLE sham (
    claim VARCHAR NOT NULL,
    number INTEGER NOT NULL,
    first INTEGER,
    second INTEGER,
    downstream_sae VARCHAR,
    downstream_latent INTEGER,
    effect DOUBLE NOT NULL,
    scenarios VARCHAR[] NOT NULL
);

-- one row an SAE, subject ('features' or 'pairs') and member of the random set on which the first-order estimate was checked:
-- means over the scenarios of the check, in nats
CREATE TABLE screen (
    sae VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    number INTEGER NOT NULL,
    member VARCHAR NOT NULL,
    estimate DOUBLE NOT NULL,
    exact DOUBLE NOT NULL
);

-- one row a concept, SAE and dose of the control test: means of changed minus untouched; nats. sham_ are means over the sets of
-- random features, pushed as far; these ran on n_beside of the scenarios, and outcome_beside is the set's own outcome there
CREATE TABLE dose (
    concept VARCHAR NOT NULL,
    sae VARCHAR NOT NULL,
    latents INTEGER[] NOT NULL,
    dose DOUBLE NOT NULL,
    n_scenarios INTEGER NOT NULL,
    outcome DOUBLE NOT NULL,
    control_outcome DOUBLE NOT NULL,
    control_kl DOUBLE NOT NULL,
    control_loss DOUBLE NOT NULL,
    outcome_beside DOUBLE NOT NULL,
    n_beside INTEGER NOT NULL,
    sham_outcomes DOUBLE[] NOT NULL,
    sham_control_kl DOUBLE NOT NULL,
    sham_control_loss DOUBLE NOT NULL,
    texts_changed DOUBLE NOT NULL
);

-- one row a mix, SAE, listed feature and tested measure of the factorial; numbers of the confirmation split. words are those that
-- hold for the feature
CREATE TABLE mix_effect (
    mix VARCHAR NOT NULL,
    sae VARCHAR NOT NULL,
    latent INTEGER NOT NULL,
    measure VARCHAR NOT NULL,
    words VARCHAR[] NOT NULL,
    rung VARCHAR NOT NULL,
    effect DOUBLE NOT NULL,
    effect_low DOUBLE,
    effect_high DOUBLE,
    against_placebo DOUBLE NOT NULL,
    p_value DOUBLE NOT NULL,
    p_holm DOUBLE NOT NULL,
    n_scenarios INTEGER NOT NULL
);

-- one row an SAE and listed pair of features that fire together more or less often than their rates in each stratum explain
CREATE TABLE co_firing (
    sae VARCHAR NOT NULL,
    first INTEGER NOT NULL,
    second INTEGER NOT NULL,
    observed INTEGER NOT NULL,
    expected DOUBLE NOT NULL,
    odds_ratio DOUBLE,
    odds_ratio_low DOUBLE,
    odds_ratio_high DOUBLE,
    q_value DOUBLE NOT NULL,
    cosine DOUBLE NOT NULL,
    community INTEGER
);

-- one row a concept, its outcome, a mix, a feature and the error of an SAE, as far as an edge names it; layer counts the
-- model's layers from 0
CREATE TABLE node (
    node VARCHAR PRIMARY KEY,
    kind VARCHAR NOT NULL,
    sae VARCHAR,
    site VARCHAR,
    layer INTEGER,
    latent INTEGER,
    label VARCHAR NOT NULL
);

-- one row a claim about two nodes in one contrast, mix or question (within); layer is 'observation', 'contrast' or
-- 'intervention'. effect is in unit, NULL where it is infinite. p_adjusted is Holm's p or a q; share is an error node's. A rung
-- of 'associated' or lower says that it was not confirmed
CREATE TABLE edge (
    source VARCHAR NOT NULL,
    target VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    layer VARCHAR NOT NULL,
    within VARCHAR NOT NULL,
    effect DOUBLE,
    low DOUBLE,
    high DOUBLE,
    unit VARCHAR NOT NULL,
    p_value DOUBLE,
    p_adjusted DOUBLE,
    share DOUBLE,
    rung VARCHAR NOT NULL
);
