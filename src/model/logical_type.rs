//! Reading of logical types as people write them: `BIGINT`, `DECIMAL(18,4)`, `STRUCT(id BIGINT, tags VARCHAR[])`.

use super::schema::{Column, LogicalType};
use crate::error::{Error, Result};

const NAMES: [(&str, LogicalType); 24] = [
    ("BOOLEAN", LogicalType::Boolean),
    ("BOOL", LogicalType::Boolean),
    ("BIGINT", LogicalType::BigInt),
    ("INT64", LogicalType::BigInt),
    ("INTEGER", LogicalType::BigInt),
    ("INT", LogicalType::BigInt),
    ("HUGEINT", LogicalType::HugeInt),
    ("DOUBLE", LogicalType::Double),
    ("FLOAT64", LogicalType::Double),
    ("FLOAT", LogicalType::Double),
    ("DATE", LogicalType::Date),
    ("TIMESTAMP", LogicalType::Timestamp),
    ("DATETIME", LogicalType::Timestamp),
    ("TIMESTAMPTZ", LogicalType::Timestamp),
    ("TIME", LogicalType::Time),
    ("VARCHAR", LogicalType::Text),
    ("STRING", LogicalType::Text),
    ("TEXT", LogicalType::Text),
    ("BLOB", LogicalType::Blob),
    ("BYTES", LogicalType::Blob),
    ("BYTEA", LogicalType::Blob),
    ("JSON", LogicalType::Json),
    ("NUMERIC", LogicalType::Decimal { precision: 38, scale: 9 }),
    ("DECIMAL", LogicalType::Decimal { precision: 18, scale: 3 }),
];

impl LogicalType {
    /// Reads a type as people write it; upper and lower case are the same.
    ///
    /// `DECIMAL` alone has 18 digits, 3 of them behind the point; `NUMERIC` alone has 38 and 9.
    ///
    /// # Errors
    /// A name that is no type, or brackets that do not fit.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { text, at: 0 };
        let read = parser.data_type()?;
        parser.skip_space();
        if parser.at < text.len() {
            return Err(parser.fault("goes on behind its end"));
        }
        Ok(read)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn data_type(&mut self) -> Result<LogicalType> {
        let name = self.word().to_uppercase();
        let mut read = match name.as_str() {
            "STRUCT" => LogicalType::Struct(self.fields()?),
            "DECIMAL" | "NUMERIC" if self.eat('(') => self.decimal()?,
            _ => match NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, read)) => read.clone(),
                None => return Err(self.unknown(&name)),
            },
        };
        // A length, as in VARCHAR(20), is accepted and means nothing: no warehouse here limits texts by it.
        if read == LogicalType::Text && self.eat('(') {
            self.number()?;
            self.expect(')')?;
        }
        while self.eat('[') {
            self.expect(']')?;
            read = LogicalType::List(Box::new(read));
        }
        Ok(read)
    }

    fn decimal(&mut self) -> Result<LogicalType> {
        let precision = self.number()?;
        let scale = if self.eat(',') { self.number()? } else { 0 };
        self.expect(')')?;
        if precision == 0 || precision > 38 || scale > precision {
            return Err(self
                .fault("has a precision that is not possible")
                .hint("a decimal has 1 to 38 digits, and no more behind the point than it has: DECIMAL(18,4)"));
        }
        Ok(LogicalType::Decimal { precision, scale })
    }

    fn fields(&mut self) -> Result<Vec<Column>> {
        self.expect('(')?;
        let mut fields = Vec::new();
        loop {
            let name = self.field_name()?;
            fields.push(Column { name, data_type: self.data_type()? });
            if !self.eat(',') {
                break;
            }
        }
        self.expect(')')?;
        Ok(fields)
    }

    fn field_name(&mut self) -> Result<String> {
        if !self.eat('"') {
            let name = self.word().to_owned();
            return if name.is_empty() { Err(self.fault("has a field without a name")) } else { Ok(name) };
        }
        let mut name = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(end) = rest.find('"') else { return Err(self.fault("has a name without a closing quote")) };
            name.push_str(&rest[..end]);
            self.at += end + 1;
            if !self.text[self.at..].starts_with('"') {
                return Ok(name);
            }
            name.push('"');
            self.at += 1;
        }
    }

    fn word(&mut self) -> &str {
        self.skip_space();
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn number(&mut self) -> Result<u8> {
        let read = self.word().parse();
        read.map_err(|_| self.fault("has brackets without a number"))
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.skip_space();
        let found = self.text[self.at..].starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        if self.eat(wanted) { Ok(()) } else { Err(self.fault(&format!("lacks a `{wanted}`"))) }
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn fault(&self, what: &str) -> Error {
        Error::config(format!("the type `{}` {what}", self.text))
            .hint("types look like BIGINT, DECIMAL(18,4), VARCHAR[], STRUCT(id BIGINT, name VARCHAR)")
    }

    fn unknown(&self, name: &str) -> Error {
        let near = NAMES
            .iter()
            .map(|(known, _)| (strsim::damerau_levenshtein(name, known), *known))
            .filter(|(distance, _)| *distance <= 2)
            .min();
        let error = Error::config(format!("`{}` is not a type", if name.is_empty() { self.text } else { name }));
        match near {
            Some((_, known)) => error.hint(format!("did you mean `{known}`?")),
            None => error.hint(
                "types are BOOLEAN, BIGINT, HUGEINT, DECIMAL(p,s), DOUBLE, DATE, TIMESTAMP, TIME, VARCHAR, BLOB, JSON, \
                 T[] and STRUCT(name T, ...)",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_as_it_is_written() {
        for text in [
            "BOOLEAN",
            "HUGEINT",
            "DECIMAL(18,4)",
            "BIGINT[][]",
            "STRUCT(\"id\" BIGINT, \"a \"\"b\"\"\" VARCHAR[], \"in\" STRUCT(\"x\" DOUBLE)[])",
        ] {
            assert_eq!(LogicalType::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(LogicalType::parse(" int64 ").expect("a type"), LogicalType::BigInt);
        assert_eq!(LogicalType::parse("varchar(20)").expect("a type"), LogicalType::Text);
        assert_eq!(
            LogicalType::parse("numeric( 10 , 2 )").expect("a type"),
            LogicalType::Decimal { precision: 10, scale: 2 }
        );
    }

    #[test]
    fn what_is_no_type_is_refused_with_the_nearest_that_is() {
        let hint = |text: &str| LogicalType::parse(text).expect_err(text).hints().join(" ");
        assert!(hint("BIGNIT").contains("`BIGINT`"));
        assert!(hint("DECIMAL(50,2)").contains("38"));
        for text in ["", "STRUCT()", "STRUCT(a", "BIGINT[", "DECIMAL(", "BIGINT x", "STRUCT(\"a BIGINT)"] {
            assert!(LogicalType::parse(text).is_err(), "{text}");
        }
    }
}
