"""`affidavit keys`: make a sealing key, and show a certificate."""

from __future__ import annotations

import json
from pathlib import Path

import click

_PUBLISHING = """Publish the certificate and its fingerprint where readers already trust you, not inside the bundle:
  - {name} on your web site over https, e.g. https://YOUR-SITE/.well-known/{name}
  - this line in contracts, policies and on paper:  SHA-256 {fingerprint}
Readers compare:  openssl x509 -in {name} -noout -fingerprint -sha256
Readers pin it:   affidavit verify BUNDLE --trust {name}"""


@click.group()
def keys() -> None:
    """Make sealing keys and show certificates."""


@keys.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for key.pem and certificate.pem.")
@click.option("--name", required=True, help="The seal's common name, e.g. 'Acme model audit'.")
@click.option("--organisation", default=None, help="The organisation that owns the seal.")
@click.option("--days", type=int, default=730, show_default=True, help="Validity in days.")
@click.option(
    "--algorithm",
    type=click.Choice(["ecdsa-p256", "rsa-3072"]),
    default="ecdsa-p256",
    show_default=True,
    help="Key kind.",
)
@click.option(
    "--passphrase-env", default=None, metavar="VARIABLE", help="Encrypt the key; passphrase in this variable."
)
@click.option("--ask-passphrase", is_flag=True, help="Encrypt the key; ask for the passphrase.")
def new(
    *,
    out: Path,
    name: str,
    organisation: str | None,
    days: int,
    algorithm: str,
    passphrase_env: str | None,
    ask_passphrase: bool,
) -> None:
    """Make a sealing key and its self-signed certificate."""
    from datetime import UTC, datetime

    from audit.errors import UsageError
    from audit.signing.keys import KeyKind, new_sealing_key, passphrase_from_environment

    if passphrase_env is not None and ask_passphrase:
        raise UsageError(
            item="--passphrase-env and --ask-passphrase",
            expected="one of the two",
            found="both",
            hint="Take the passphrase from a variable or from the prompt.",
        )
    passphrase: str | None = None
    if passphrase_env is not None:
        passphrase = passphrase_from_environment(passphrase_env)
    elif ask_passphrase:
        passphrase = str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True))
    made = new_sealing_key(
        out,
        name,
        organisation=organisation,
        days=days,
        not_before=datetime.now(UTC),
        algorithm=KeyKind(algorithm),
        passphrase=passphrase,
    )
    protection = "owner only, encrypted" if passphrase is not None else "owner only, NOT encrypted"
    click.echo(f"key          {made.key_path} ({protection}: never share it, never commit it)")
    click.echo(f"certificate  {made.certificate_path}")
    click.echo(f"fingerprint  {made.certificate.fingerprint}")
    click.echo(f"valid until  {made.certificate.not_after.isoformat()}")
    click.echo("")
    for line in _PUBLISHING.format(name=made.certificate_path.name, fingerprint=made.certificate.fingerprint).split(
        "\n"
    ):
        click.echo(line)


@keys.command()
@click.argument("certificate", metavar="CERT", type=click.Path(path_type=Path))
@click.option(
    "--passphrase-env", default=None, metavar="VARIABLE", help="Opens a .p12 file; passphrase in this variable."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(*, certificate: Path, passphrase_env: str | None, as_json: bool) -> None:
    """Show the subject, fingerprint and validity of a seal's certificate, and those above it.

    CERT is a PEM file or a PKCS#12 file.
    """
    from audit.signing.certificates import fingerprint
    from audit.signing.checks import printable
    from audit.signing.keys import passphrase_from_environment, read_chain

    passphrase = passphrase_from_environment(passphrase_env) if passphrase_env is not None else None
    chain = read_chain(certificate, passphrase)
    record = chain.certificate
    fields: dict[str, str | None] = {
        "common_name": record.common_name,
        "organisation": record.organisation,
        "fingerprint": record.fingerprint,
        "algorithm": record.algorithm.value,
        "not_before": record.not_before.isoformat(),
        "not_after": record.not_after.isoformat(),
    }
    above = [*chain.issuers, *([chain.root] if chain.root is not None else [])]
    issuers = [{"subject": it.subject.rfc4514_string(), "fingerprint": fingerprint(it)} for it in above]
    if as_json:
        click.echo(json.dumps({**fields, "issuers": issuers}, sort_keys=True))
        return
    for key, value in fields.items():
        click.echo(f"{key.replace('_', ' '):<14}{printable(value) if value is not None else '(none)'}")
    for issuer in issuers:
        click.echo(f"{'issued by':<14}{printable(issuer['subject'])}  {issuer['fingerprint']}")
