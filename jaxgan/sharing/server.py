"""The explorer's server: who may see the page, and where."""

import functools
import ipaddress
import os
import secrets
import socket
import tempfile
import threading

from jaxgan import data
from jaxgan.core.errors import ConfigError
from jaxgan.core.files import as_path
from jaxgan.sampling import exported
from jaxgan.sampling.load import load
from jaxgan.sharing.explorer import Explorer
from jaxgan.sharing.page import STYLE, import_gradio, page
from jaxgan.sharing.sheets import Sheets
from jaxgan.sharing.training_images import TrainingImages

HERE = "127.0.0.1"
ASKED_BY_GRADIO = "/gradio_api/startup-events"  # when it starts, of itself; there is nothing to see


def explore(path, step="newest", port: int | None = None, host: str | None = None) -> None:
    """Shows a generator in a browser, until Ctrl-C.

    Args:
      path, step: as in `load`; training images are searched where it is a run.
      port: of this machine; None: the first from 7860 on that is free.
      host: the address that others reach the page at, such as 0.0.0.0 for all; None: GRADIO_SERVER_NAME, as in a
        Space, or this machine alone.

    Raises:
      ConfigError: a wrong request, or no extra `explore`.
    """
    import_gradio(path)
    host = host or os.environ.get("GRADIO_SERVER_NAME") or HERE
    _require_address(host)
    generator = load(path, step)
    settings, reals = generator.config.data, None
    if settings.name not in ("", "custom") and _is_run(path):
        reals = TrainingImages(functools.partial(data.load, settings))
    explorer = Explorer(generator)
    print("drawing the first pictures ...", flush=True)
    explorer.prepare()
    with tempfile.TemporaryDirectory(prefix="jaxgan-explore-") as pictures:
        os.environ["GRADIO_TEMP_DIR"] = pictures  # by default one for all people of a machine
        name = str(path) if _is_on_hub(path) else as_path(path).name
        server, address = serve(Sheets(explorer, reals), name, port, host)
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()
        finally:
            server.close(verbose=False)


def _require_address(host: str) -> None:
    """Raises a ConfigError unless this machine can be reached at `host`; the server would blame port after port."""
    try:
        family, *_, address = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", "no name of any")
        raise ConfigError(f"host={host!r}: is no address of this machine ({reason}); 0.0.0.0 is all it has") from error


def serve(sheets: Sheets, name: str, port: int | None = None, host: str = HERE):
    """Starts a server for this machine alone or, where `host` is another address, for who has the token.

    A Space of the Hub is for everyone.

    Returns:
      Its gradio.Blocks, to be closed, and the address of the page, with the token if it needs one.

    Raises:
      ConfigError: the port is taken.
    """
    gradio = import_gradio(name)
    token = "" if _is_loopback(host) or os.environ.get("SPACE_ID") else secrets.token_urlsafe(24)
    fonts = dict(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # of no other server
    theme = gradio.themes.Default(**fonts).set(block_info_text_color="*neutral_500")
    look = dict(theme=theme, css=STYLE, footer_links=[])
    how = dict(share=False, ssr_mode=False, prevent_thread_lock=True, quiet=True)
    blocks = page(sheets, name)
    try:
        blocks.launch(server_name=host, server_port=port, app_kwargs=_guarded(token), **how, **look)
    except OSError as error:
        raise ConfigError(f"port={port}: is taken, or not for everyone; name another, or none") from error
    if not token:
        return blocks, blocks.local_url
    there = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return blocks, f"http://{there}:{blocks.server_port}/?token={token}"


def _guarded(token: str) -> dict:
    from starlette.middleware import Middleware

    return {"middleware": [Middleware(guard, token)]} if token else {}


def guard(app, token: str):
    """Returns an ASGI app that answers nobody who does not know the token.

    It is in the address of the first request, and in a cookie from then on.
    """
    from starlette.requests import HTTPConnection
    from starlette.responses import PlainTextResponse, RedirectResponse

    def is_right(given: str | None) -> bool:
        return secrets.compare_digest((given or "").encode(), token.encode())

    async def answer(scope, receive, send):
        if scope["type"] == "lifespan" or scope["path"] == ASKED_BY_GRADIO:
            return await app(scope, receive, send)
        request = HTTPConnection(scope)
        cookie = f"jaxgan_{scope['server'][1]}"  # of this port: cookies are for all of a host
        if is_right(request.cookies.get(cookie)):
            return await app(scope, receive, send)
        response = PlainTextResponse("Open the address, with its token, that jaxgan explore has printed.", 401)
        if is_right(request.query_params.get("token")):
            response = RedirectResponse(request.url.remove_query_params("token"))
            response.set_cookie(cookie, token, httponly=True, samesite="lax")
        return await response(scope, receive, send)

    return answer


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_on_hub(path) -> bool:
    return str(path).startswith(exported.HUB)


def _is_run(path) -> bool:
    return not _is_on_hub(path) and not (as_path(path) / exported.WEIGHTS).exists()
