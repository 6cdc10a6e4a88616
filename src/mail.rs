//! Mail by SMTP (RFC 5321): one message at a time, encrypted as the connection says.

use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::{MailTls, SmtpConnection};
use crate::secret::ExposeSecret;

/// A server that takes mail; nothing is sent before it is asked to.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    /// The server, for messages.
    place: String,
}

/// What is sent.
#[derive(Debug, Clone)]
pub struct Mail {
    /// To whom.
    pub to: Vec<String>,
    /// Its subject, on one line.
    pub subject: String,
    /// The same twice: as plain text.
    pub text: String,
    /// And as HTML.
    pub html: String,
    /// A name that no other message has: the same again lets a reader know it again.
    pub id: String,
}

impl Mailer {
    /// Prepares the way to a server.
    ///
    /// # Errors
    /// An address or a certificate that is none.
    pub fn open(name: &str, settings: &SmtpConnection) -> Result<Self> {
        let doing = || format!("opening the connection `{name}`");
        let from = settings.from.parse::<Mailbox>();
        let from = from.map_err(|error| {
            Error::new(Kind::Connection, doing())
                .because(format!("`from` is no mail address: {error}"))
                .hint("from = \"haul <haul@example.com>\"")
        })?;
        let mut parameters = TlsParameters::builder(settings.host.clone());
        if let Some(pem) = &settings.authorities {
            let certificate = Certificate::from_pem(pem.as_bytes()).context(Kind::Connection, doing)?;
            parameters = parameters.add_root_certificate(certificate);
        }
        let tls = match settings.tls {
            MailTls::None => Tls::None,
            MailTls::StartTls => Tls::Required(parameters.build().context(Kind::Connection, doing)?),
            MailTls::Tls => Tls::Wrapper(parameters.build().context(Kind::Connection, doing)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(tls)
            .timeout(Some(settings.timeout));
        if let Some((user, password)) = &settings.login {
            builder = builder.credentials(Credentials::new(user.clone(), password.expose_secret().to_owned()));
        }
        let place = format!("{}:{}", settings.host, settings.port);
        Ok(Self { transport: builder.build(), from, place })
    }

    /// Where the server is: `smtp.example.com:587`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Says hello to the server, and who we are.
    ///
    /// # Errors
    /// A server that cannot be reached, or that refuses who we are.
    pub async fn greet(&self) -> Result<()> {
        let doing = || format!("greeting the mail server {}", self.place);
        match self.transport.test_connection().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::new(Kind::Unavailable, doing()).because("it hung up")),
            Err(error) => Err(refused(doing(), error)),
        }
    }

    /// Sends one message to all of its recipients.
    ///
    /// # Errors
    /// An address that is none, a server that cannot be reached or that refuses the message.
    pub async fn send(&self, mail: &Mail) -> Result<()> {
        let doing = || format!("sending mail by {}", self.place);
        let host = self.from.email.domain();
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(mail.subject.replace(['\r', '\n'], " "))
            .message_id(Some(format!("<haul-{}@{host}>", mail.id)));
        for address in &mail.to {
            let mailbox = address.parse::<Mailbox>();
            message = message.to(mailbox
                .map_err(|error| Error::config(doing()).because(format!("`{address}` is no mail address: {error}")))?);
        }
        let body = MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone());
        let message = message.multipart(body).context(Kind::Internal, doing)?;
        self.transport.send(message).await.map_err(|error| refused(doing(), error))?;
        Ok(())
    }
}

fn refused(doing: String, error: lettre::transport::smtp::Error) -> Error {
    let code = error.status().map(|code| code.to_string().parse::<u16>().unwrap_or_default());
    let (kind, hint) = match code {
        Some(530 | 534 | 535) => (Kind::Auth, Some("are `user` and `password` of the connection right?")),
        Some(_) => (Kind::Source, None),
        None if error.is_tls() => (
            Kind::Unavailable,
            Some("tls = \"tls\" is for port 465, \"starttls\" for 587, \"none\" for a server in the house"),
        ),
        None => (Kind::Unavailable, Some("are host and port right, and is the server up?")),
    };
    let refused = Error::new(kind, doing).because(error);
    match hint {
        Some(hint) => refused.hint(hint),
        None => refused,
    }
}
