//! A collection of MongoDB that asks for a password, its events by a date and by the time in their `_id`.

mod with_mongodb {
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{Bson, DateTime, Decimal128, Document, doc};

    use super::super::super::{Event, Origin, passes};
    use crate::support::doors::nobody;
    use crate::support::mongodb::{Database, PASSWORD};
    use crate::support::project::Project;

    struct Events {
        database: Database,
        step: &'static str,
    }

    impl Events {
        fn document(&self, event: &Event) -> Document {
            let at = DateTime::parse_rfc3339_str(&event.at).expect("a time");
            let amount: Decimal128 = event.amount.parse().expect("a decimal");
            let id = if self.step.contains("_id") {
                let seconds = u32::try_from(at.timestamp_millis() / 1000).expect("a second");
                let mut bytes = [0; 12];
                bytes[..4].copy_from_slice(&seconds.to_be_bytes());
                bytes[4..].copy_from_slice(&event.id.to_be_bytes());
                Bson::ObjectId(ObjectId::from_bytes(bytes))
            } else {
                Bson::Int64(event.id)
            };
            doc! { "_id": id, "id": event.id, "happened_at": at, "amount": amount, "name": &event.name, "note": event.note.clone() }
        }
    }

    impl Origin for Events {
        fn connection(&self) -> String {
            self.database.connection("origin")
        }

        fn step(&self) -> String {
            format!("connection = \"origin\"\ncollection = \"events\"\nbatch_size = 7\n{}", self.step)
        }

        fn put(&self, _project: &Project, day: &str, events: &[Event]) {
            let at = |time: &str| DateTime::parse_rfc3339_str(format!("{day}T{time}Z")).expect("a time");
            let day = doc! { "$gte": at("00:00:00"), "$lte": at("23:59:59.999") };
            self.database.delete("events", doc! { "happened_at": day });
            self.database.insert("events", events.iter().map(|event| self.document(event)).collect());
        }

        fn secret(&self) -> Option<&str> {
            Some(PASSWORD)
        }

        fn gone(&self) -> Option<String> {
            Some(self.database.connection_at("origin", nobody()))
        }
    }

    #[test]
    fn documents_of_a_collection_pass_by_their_date() {
        passes(&Events { database: Database::new(), step: "time_column = \"happened_at\"" });
    }

    #[test]
    fn documents_of_a_collection_pass_by_the_time_in_their_id() {
        passes(&Events { database: Database::new(), step: "time_column = \"_id\"" });
    }
}
