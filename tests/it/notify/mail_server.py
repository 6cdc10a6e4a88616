"""A mail server on the port of its argument: TLS, later or from the start, and a login are asked for; what comes is written to a folder."""

import asyncio, json, pathlib, ssl, sys
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, SMTP

port, folder, tls = int(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
from_the_start = sys.argv[4] == "tls"


class Keep:
    count = 0

    async def handle_DATA(self, server, session, envelope):
        Keep.count += 1
        letter = {"from": envelope.mail_from, "to": envelope.rcpt_tos, "user": (session.auth_data or b"").decode()}
        letter["text"] = envelope.content.decode("utf-8", "replace")
        part = folder / f"{Keep.count}.part"
        part.write_text(json.dumps(letter))
        part.rename(folder / f"{Keep.count}.json")
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    fine = data.login == b"haul" and data.password == b"open-the-post-office"
    return AuthResult(success=fine, handled=False, auth_data=data.login if fine else None)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(tls / "server.pem", tls / "server.key")


class Server(Controller):
    def factory(self):
        if from_the_start:
            # The library only knows of TLS that it began itself.
            return SMTP(self.handler, auth_required=True, auth_require_tls=False, authenticator=authenticate)
        return SMTP(
            self.handler, require_starttls=True, tls_context=context, auth_required=True, authenticator=authenticate
        )


Server(Keep(), hostname="127.0.0.1", port=port, ssl_context=context if from_the_start else None).start()
(folder / "ready").touch()
sys.stdin.read()
