"""`affidavit sae`: train an instrument, certify it, look into it."""

from __future__ import annotations

from pathlib import Path

import click

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


_MODEL = click.option("--model", default="default", show_default=True, help="Folder, GGUF file or Hugging Face id.")
_QUIET = click.option("--quiet", is_flag=True, help="No progress on stderr.")
_TEXT = click.option(
    "--text",
    type=_FILE,
    required=True,
    help="JSON lines or plain text; only documents that every training holds out are read.",
)
_ALL_DOCUMENTS = click.option(
    "--all-documents", is_flag=True, help="Also those that a training may have used: for text it never saw."
)


@click.group()
def sae() -> None:
    """Sparse autoencoders: train one, measure how far it can be trusted, look at a latent."""


@sae.command()
@_MODEL
@click.option(
    "--dtype", type=click.Choice(["bf16", "fp32"]), default="bf16", show_default=True, help="Of the forward pass."
)
@click.option("--site", required=True, help="Where it reads, for example resid_post.15.")
@click.option("--corpus", type=_FILE, required=True, help="JSON lines or plain text, also as .zst or .gz.")
@click.option("--out", type=_FOLDER, required=True, help="The SAE's folder.")
@click.option("--latents", type=click.IntRange(2), required=True, help="Width of the SAE.")
@click.option("--k", type=click.IntRange(1), default=32, show_default=True, help="Latents that may fire at a token.")
@click.option("--tokens", type=click.IntRange(1), default=2_000_000, show_default=True, help="Tokens to harvest.")
@click.option(
    "--updates",
    type=click.IntRange(1),
    default=20_000_000,
    show_default=True,
    help="Tokens to train on, repeats included.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the weights and the order of batches."
)
@click.option(
    "--data-seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the order of documents. Trainings with the same one can share --activations.",
)
@click.option(
    "--chat-share",
    type=click.FloatRange(0, 1),
    default=0.25,
    show_default=True,
    help="Share of tokens in the model's chat template.",
)
@click.option(
    "--register-limit",
    "register_limits",
    multiple=True,
    default=("dictionary=0.06",),
    show_default=True,
    metavar="NAME=SHARE",
    help="Largest share of a register. Repeatable.",
)
@click.option(
    "--outlier-factor",
    type=click.FloatRange(1),
    default=10.0,
    show_default=True,
    help="Positions beyond this multiple of the median norm are left out.",
)
@click.option("--batch", type=click.IntRange(1), default=4096, show_default=True, help="Tokens a step.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=2e-3, show_default=True)
@click.option(
    "--encoder-dtype",
    type=click.Choice(["bf16", "fp32"]),
    default="bf16",
    show_default=True,
    help="Of the one dense product of a step; fp32 is faster on processors without bf16 arithmetic.",
)
@click.option(
    "--freeze-decoder",
    type=click.IntRange(0),
    default=None,
    metavar="SEED",
    help="Keep a random decoder from this seed: the control of an SAE.",
)
@click.option("--activations", type=_FOLDER, default=None, help="Keep activations here for further trainings.")
@click.option("--name", default=None, help="Of the SAE. Default: model and site.")
@click.option("--licence", default=None, help="Under which the weights may be used, for the card.")
@_QUIET
def train(
    *,
    model: str,
    dtype: str,
    site: str,
    corpus: Path,
    out: Path,
    latents: int,
    k: int,
    tokens: int,
    updates: int,
    seed: int,
    data_seed: int,
    chat_share: float,
    register_limits: tuple[str, ...],
    outlier_factor: float,
    batch: int,
    learning_rate: float,
    encoder_dtype: str,
    freeze_decoder: int | None,
    activations: Path | None,
    name: str | None,
    licence: str | None,
    quiet: bool,
) -> None:
    """Train a TopK SAE on the residual stream of a model.

    A killed training resumes: give the same command again.
    """
    from audit.cli.bar import progress
    from audit.config import Dtype, ModelConfig
    from audit.training.harvest import HarvestRecipe
    from audit.training.run import TrainingRequest, train_sae
    from audit.training.topk import TopKRecipe
    from audit.workspace import refuse_taken

    refuse_taken(out)
    request = TrainingRequest(
        model=ModelConfig(model, Dtype(dtype)),
        site=site,
        corpus=corpus,
        out=out,
        harvest=HarvestRecipe(
            tokens=tokens,
            held_out_tokens=max(1, min(30_000, tokens // 20)),
            chat_share=chat_share,
            register_limits=_shares(register_limits),
            outlier_norm_factor=outlier_factor,
            seed=data_seed,
        ),
        recipe=TopKRecipe(
            latents=latents,
            k=k,
            updates=updates,
            seed=seed,
            batch=batch,
            learning_rate=learning_rate,
            decoder_seed=freeze_decoder,
            encoder_dtype=encoder_dtype,
        ),
        activations=activations,
        name=name,
        licence=licence,
    )
    trained = train_sae(request, progress=progress(quiet=quiet))
    click.echo(f"sae       {trained.folder}")
    click.echo(f"weights   {trained.weights_digest}")
    for label, value in (("plain", trained.last.fvu_plain), ("chat", trained.last.fvu_chat)):
        if value is not None:
            click.echo(f"fvu       {value:.3f} held out, {label}")
    click.echo(f"next      affidavit sae check {trained.folder} --model {model} --text {corpus}")


def _shares(texts: tuple[str, ...]) -> dict[str, float]:
    from audit.errors import UsageError

    shares = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not name or not 0 <= share <= 1:
            raise UsageError(
                item="--register-limit", expected="NAME=SHARE with a share from 0 to 1", found=text, hint="Mend it."
            )
        shares[name] = share
    return shares


@sae.command()
@click.argument("source", metavar="SAE")
@_MODEL
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Of the forward pass; that of the audits to come.",
)
@_TEXT
@_ALL_DOCUMENTS
@click.option("--tokens", type=click.IntRange(200), default=None, help="Tokens to measure on. Default: up to 100,000.")
@click.option(
    "--spliced-tokens",
    type=click.IntRange(100),
    default=20_000,
    show_default=True,
    help="Of these, for the model's predictions.",
)
@click.option("--chat-share", type=click.FloatRange(0, 1), default=0.4, show_default=True, help="In the chat template.")
@click.option(
    "--other-seed", default=None, metavar="SAE", help="Another training of the same site, to match latents with."
)
@click.option("--write", is_flag=True, help="Put certificate.json beside the weights; reports include it.")
@click.option("--json", "as_json", is_flag=True, help="Print the certificate as JSON.")
@_QUIET
def check(
    *,
    source: str,
    model: str,
    dtype: str,
    text: Path,
    all_documents: bool,
    tokens: int | None,
    spliced_tokens: int,
    chat_share: float,
    other_seed: str | None,
    write: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure how faithful an SAE is on text that it was not trained on.

    SAE is `default`, the name of a shipped one, or any source of docs/sae-formats.md.
    """
    import json

    from audit.capture.sae_sources import certificate_folder
    from audit.certification import CheckRequest, certify, write_certificate
    from audit.cli.bar import progress
    from audit.cli.fidelity_table import certificate_lines
    from audit.config import Dtype, ModelConfig
    from audit.errors import UsageError
    from audit.records import as_json as to_json

    folder = certificate_folder(source)
    if write and folder is None:
        raise UsageError(
            item="--write",
            expected="an SAE in a folder of its own on this machine",
            found=source,
            hint="Copy its files into a folder and name that, or leave --write out and keep what is printed.",
        )
    request = CheckRequest(
        sae=source,
        model=ModelConfig(model, Dtype(dtype)),
        text=text,
        tokens=tokens,
        spliced_tokens=spliced_tokens,
        chat_share=chat_share,
        other_seed=other_seed,
        all_documents=all_documents,
    )
    certificate = certify(request, progress=progress(quiet=quiet))
    path = write_certificate(certificate, folder) if write and folder is not None else None
    if as_json:
        click.echo(json.dumps(to_json(certificate), indent=1))
        return
    for line in certificate_lines(certificate):
        click.echo(line)
    if path is not None:
        click.echo(f"written   {path}")


@sae.command()
@click.argument("source", metavar="SAE")
@click.argument("latent", type=int)
@_MODEL
@_TEXT
@_ALL_DOCUMENTS
@click.option("--tokens", type=click.IntRange(1), default=30_000, show_default=True, help="Tokens to read.")
@click.option("--contexts", type=click.IntRange(0), default=4, show_default=True, help="Places to show of each level.")
@click.option(
    "--chat-share", type=click.FloatRange(0, 1), default=0.25, show_default=True, help="In the chat template."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@_QUIET
def inspect(
    *,
    source: str,
    latent: int,
    model: str,
    text: Path,
    all_documents: bool,
    tokens: int,
    contexts: int,
    chat_share: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show what a latent fires on, how often, and which tokens its direction promotes.

    SAE is `default`, the name of a shipped one, or any source of docs/sae-formats.md.
    """
    import json

    from audit.bench import open_bench
    from audit.cli.bar import progress
    from audit.cli.fidelity_table import latent_lines
    from audit.config import ModelConfig
    from audit.inspection import inspect_latent
    from audit.records import as_json as to_json

    listener = progress(quiet=quiet)
    bench = open_bench(source, ModelConfig(model), text, all_documents=all_documents, progress=listener)
    view = inspect_latent(bench, latent, tokens=tokens, contexts=contexts, chat_share=chat_share, progress=listener)
    if as_json:
        click.echo(json.dumps(to_json(view), indent=1))
        return
    for line in latent_lines(view):
        click.echo(line)
