//! What a value is in its source is what it is in the warehouse: digits, texts, times.

use haul::error::Kind;
use haul::model::pipeline::Naming;

use super::bench::{Driver, Load, items, refused};

fn whole_numbers_beyond_what_a_float_holds_keep_their_digits(driver: Driver) {
    driver.run(|bench| async move {
        let rows = "{\"n\":9007199254740993,\"h\":1}\n{\"n\":-9223372036854775808,\"h\":9223372036854775808}\n\
                    {\"n\":9223372036854775807,\"h\":-170141183460469231731687303715884105727}";
        bench.load(&Load::whole(), &[rows]).await.expect("a commit");
        assert_eq!(bench.columns(&items()).await, "n BIGINT, h HUGEINT");
        assert_eq!(
            bench.text("SELECT n, h FROM raw.items ORDER BY n").await,
            r#"[[-9223372036854775808,9223372036854775808],[9007199254740993,1],[9223372036854775807,"-170141183460469231731687303715884105727"]]"#
        );
    });
}

fn decimals_that_a_float_would_round_keep_their_digits(driver: Driver) {
    driver.run(|bench| async move {
        let long = "1234567890123456789012345678.0123456789";
        let rows = format!(
            "{{\"d\":{long},\"e\":0.5}}\n{{\"d\":-0.1,\"e\":1.5e3}}\n{{\"d\":3,\"e\":2.2250738585072014e-308}}\n{{\"d\":1.5e2,\"e\":7}}"
        );
        bench.load(&Load::whole(), &[&rows]).await.expect("a commit");
        assert_eq!(bench.columns(&items()).await, "d DECIMAL(38,10), e DOUBLE");
        assert_eq!(
            bench.text("SELECT d, e FROM raw.items ORDER BY d").await,
            format!(
                r#"[["-0.1000000000",1500.0],["3.0000000000",2.2250738585072014e-308],["150.0000000000",7.0],["{long}",0.5]]"#
            )
        );
    });
}

fn declared_decimals_have_all_their_digits_up_to_the_last_that_a_float_holds_and_beyond(driver: Driver) {
    driver.run(|bench| async move {
        for (declared, most) in [("DECIMAL(15,4)", 99_999_999_999), ("DECIMAL(18,4)", 9_999_999_999_999)] {
            let mut load = Load::whole().declare("d", declared);
            load.table.name = format!("t{most}");
            // Digits spread by a multiplier without a common factor, with the largest number among them.
            let value = |n: u64| format!("{}.{:04}", n * 7_919_777_111 % (most + 1), n * 6_151 % 10_000);
            let mut values: Vec<String> = (0..3000).map(value).collect();
            values.extend([format!("{most}.9999"), "0.0001".to_owned(), "0.0000".to_owned()]);
            let rows: Vec<String> =
                values.iter().map(|value| format!("{{\"d\":-{value},\"t\":\"-{value}\"}}")).collect();
            bench.load(&load, &[&rows.join("\n")]).await.expect("a commit");
            let decimals = driver.decimals(declared);
            let sql = format!("SELECT count(*) AS n FROM raw.t{most} WHERE d = CAST(t AS {decimals})");
            assert_eq!(bench.text(&sql).await, "[[3003]]", "{declared}");
        }
    });
}

fn a_long_whole_number_among_fractions_makes_a_decimal_and_not_a_rounded_float(driver: Driver) {
    driver.run(|bench| async move {
        bench.load(&Load::whole(), &["{\"n\":9007199254740993}\n{\"n\":0.25}"]).await.expect("a commit");
        assert_eq!(
            bench.text("SELECT n FROM raw.items ORDER BY n").await,
            format!(r#"[["0.25"],["{}"]]"#, driver.decimal("9007199254740993.00"))
        );
    });
}

fn an_exponent_moves_the_point_and_loses_no_digit(driver: Driver) {
    driver.run(|bench| async move {
        let rows = "{\"n\":1.2345678901234567891e-2}\n{\"n\":1234567890123456.789e1}\n{\"n\":0e9}";
        bench.load(&Load::whole(), &[rows]).await.expect("a commit");
        assert_eq!(
            bench.text("SELECT n FROM raw.items ORDER BY n").await,
            r#"[["0.000000000000000000000"],["0.012345678901234567891"],["12345678901234567.890000000000000000000"]]"#
        );
    });
}

fn a_number_longer_than_38_digits_is_told_with_its_place_and_can_be_kept_as_text(driver: Driver) {
    driver.run(|bench| async move {
        let long = "123456789012345678901234567890123456789012";
        let pages = ["{\"n\":1}".to_owned(), format!("{{\"n\":2}}\n{{\"n\":{long}}}")];
        let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
        let error = refused(bench.load(&Load::whole(), &pages).await, Kind::Data);
        assert!(error.contains("`n` has a number beyond 128 bits on page 2, row 2"), "{error}");
        bench.load(&Load::whole().declare("n", "VARCHAR"), &pages).await.expect("a commit");
        assert_eq!(bench.text("SELECT n FROM raw.items ORDER BY n").await, format!(r#"[["1"],["{long}"],["2"]]"#));
        let pages = ["{\"m\":12345678901234567890.5}\n{\"m\":0.1234567890123456789012}"];
        let error = refused(bench.load(&Load::whole(), &pages).await, Kind::Data);
        assert!(
            error.contains("20 digits before the point (page 1, row 1) and 22 behind it (page 1, row 2)"),
            "{error}"
        );
    });
}

fn texts_come_as_they_are(driver: Driver) {
    driver.run(|bench| async move {
        let texts = [
            "",
            "null",
            "'); DROP TABLE raw.items; --",
            "\"q\"",
            "한국어 🎧 e\u{301}",
            "a\nb\tc\\d",
            driver.pick("\u{0}", "\u{1}", "\u{0}"),
            "NaN",
            "{}",
            "007",
        ];
        let rows: Vec<String> =
            texts.iter().enumerate().map(|(id, text)| serde_json::json!({ "id": id, "t": text }).to_string()).collect();
        let rows = format!("{}\n{{\"id\":99,\"t\":null}}\n{{\"id\":100}}", rows.join("\n"));
        bench.load(&Load::whole(), &[&rows]).await.expect("a commit");
        let found = bench.rows("SELECT t FROM raw.items ORDER BY id").await;
        let found: Vec<Option<&str>> = found.iter().map(|row| row[0].as_str()).collect();
        let wanted: Vec<Option<&str>> = texts.iter().map(|text| Some(*text)).chain([None, None]).collect();
        assert_eq!(found, wanted);
    });
}

fn names_of_columns_may_hold_anything(driver: Driver) {
    driver.run(|bench| async move {
        // What BigQuery's names may not hold is refused before anything is sent.
        let odd = ["it's", "a \"b\"", "select", "이름", "a.b", "tab\there", "{"];
        let names = driver.pick(odd, odd, ["it's", "a b", "select", "이름", "a-b", "tab\there", "<"]);
        let row: serde_json::Map<_, _> =
            names.iter().zip(1..).map(|(name, n)| ((*name).to_owned(), n.into())).collect();
        bench.load(&Load::whole(), &[&serde_json::Value::Object(row).to_string()]).await.expect("a commit");
        let names = names.map(|name| driver.quoted(name)).join(", ");
        assert_eq!(bench.text(&format!("SELECT {names} FROM raw.items")).await, "[[1,2,3,4,5,6,7]]");
        let mut snake = Load::whole();
        (snake.table.name, snake.naming) = ("snake".to_owned(), Naming::Snake);
        bench.load(&snake, &["{\"userId\":1,\"Total (EUR)\":2}"]).await.expect("a commit");
        assert_eq!(bench.columns(&snake.table).await, "user_id BIGINT, total_eur BIGINT");
    });
}

fn names_that_no_column_can_have_are_refused(driver: Driver) {
    driver.run(|bench| async move {
        for (row, wanted) in [
            ("{\"id\":1,\"ID\":2}", "`id` and `ID` would be the same column"),
            ("{\"_haul_unit\":1}", "`_haul_unit` has the name of a column of haul's own"),
            ("{\"\":1}", "no name that a column can have"),
        ] {
            let error = refused(bench.load(&Load::whole(), &[row]).await, Kind::Data);
            assert!(error.contains(wanted), "{error}");
        }
    });
}

fn times_with_an_offset_become_utc_and_those_without_stay(driver: Driver) {
    driver.run(|bench| async move {
        let rows = "{\"id\":1,\"at\":\"2024-03-31T02:30:00+09:00\",\"local\":\"2024-03-31T02:30:00\",\"d\":\"2024-02-29\"}\n\
                    {\"id\":2,\"at\":\"2024-03-31T02:30:00.123456Z\",\"local\":\"2024-03-31 02:30:00.5\",\"d\":null}\n\
                    {\"id\":3,\"at\":\"1969-12-31T23:59:59-00:30\",\"local\":\"2024-03-31\",\"d\":\"0001-01-01\"}";
        bench.load(&Load::whole(), &[rows]).await.expect("a commit");
        assert_eq!(bench.columns(&items()).await, "id BIGINT, at TIMESTAMP, local TIMESTAMP, d DATE");
        let found = bench.rows(&format!("SELECT {}, local, d FROM raw.items ORDER BY id", driver.quoted("at"))).await;
        let wanted = [
            ("2024-03-30 17:30:00", "2024-03-31 02:30:00", Some("2024-02-29")),
            ("2024-03-31 02:30:00.123456", "2024-03-31 02:30:00.5", None),
            ("1970-01-01 00:29:59", "2024-03-31 00:00:00", Some("0001-01-01")),
        ];
        for (row, (at, local, date)) in found.iter().zip(wanted) {
            assert_eq!(*row, [driver.instant(at).into(), driver.local(local).into(), serde_json::Value::from(date)]);
        }
        assert_eq!(found.len(), 3);
    });
}

fn texts_that_only_resemble_times_or_mix_their_kinds_stay_texts(driver: Driver) {
    driver.run(|bench| async move {
        let rows = "{\"leap\":\"2016-12-31T23:59:60Z\",\"mixed\":\"2024-01-01T00:00:00Z\",\"no\":\"2023-02-29\"}\n\
                    {\"leap\":\"2016-12-31T23:59:59Z\",\"mixed\":\"2024-01-01T00:00:00\",\"no\":\"2024-01-01\"}";
        bench.load(&Load::whole(), &[rows]).await.expect("a commit");
        assert_eq!(bench.columns(&items()).await, "leap VARCHAR, mixed VARCHAR, no VARCHAR");
    });
}

fn declared_types_win_over_what_values_look_like(driver: Driver) {
    driver.run(|bench| async move {
        let load = Load::whole()
            .declare("code", "VARCHAR")
            .declare("price", "DECIMAL(10,2)")
            .declare("at", "TIMESTAMP")
            .declare("day", "DATE")
            .declare("clock", "TIME")
            .declare("raw", "JSON")
            .declare("never", "DOUBLE");
        // The emulator reads a text in a column of JSON as what it would be without its marks.
        let raw = driver.pick("\"x\"", "\"x\"", "[\"x\"]");
        let rows = format!(
            "{{\"code\":7,\"price\":1.5,\"at\":\"2024-01-01T00:00:00-05:00\",\"day\":\"2024-01-01\",\"clock\":\"12:30:00\",\"raw\":{raw}}}\n\
             {{\"code\":\"x\",\"price\":\"2.25\",\"at\":null,\"day\":null,\"clock\":null,\"raw\":{{\"a\":[1,null]}}}}"
        );
        bench.load(&load, &[&rows]).await.expect("a commit");
        assert_eq!(
            bench.columns(&items()).await,
            "code VARCHAR, price DECIMAL(10,2), at TIMESTAMP, day DATE, clock TIME, raw JSON, never DOUBLE"
        );
        let at = driver.quoted("at");
        let (price, instant) = (driver.decimal("1.50"), driver.instant("2024-01-01 05:00:00"));
        assert_eq!(
            bench.text(&format!("SELECT code, price, {at}, day, clock, raw, never FROM raw.items ORDER BY code")).await,
            format!(
                r#"[["7","{price}","{instant}","2024-01-01","12:30:00",{raw},null],["x","2.25",null,null,null,{{"a":[1,null]}},null]]"#
            )
        );
    });
}

fn rows_longer_than_16_megabytes_are_loaded(driver: Driver) {
    driver.run(|bench| async move {
        let long = format!("{{\"id\":1,\"t\":\"{}\"}}\n{{\"id\":2,\"t\":\"short\"}}", "lang ".repeat(3_600_000));
        bench.load(&Load::whole(), &[&long]).await.expect("a commit");
        assert_eq!(bench.text("SELECT length(t) FROM raw.items ORDER BY id").await, "[[18000000],[5]]");
    });
}

fn rows_without_members_are_rows(driver: Driver) {
    driver.run(|bench| async move {
        bench.load(&Load::whole(), &["{}\n{\"a\":null}\n{}"]).await.expect("a commit");
        assert_eq!(bench.text("SELECT count(*) FROM raw.items").await, "[[3]]");
    });
}

fn rows_that_are_no_objects_are_rows(driver: Driver) {
    driver.run(|bench| async move {
        let mut other = Load::whole();
        "values".clone_into(&mut other.table.name);
        bench.load(&other, &["5\n7"]).await.expect("a commit");
        assert_eq!(bench.text("SELECT value FROM raw.values ORDER BY 1").await, "[[5],[7]]");
    });
}

fn a_stage_may_lie_in_a_folder_whose_name_looks_like_a_pattern(driver: Driver) {
    driver.run(|bench| async move {
        let load = Load::whole();
        let manifest = bench.stage_in(&load, &["{\"n\":1}"], "st[a]ges it's *", None);
        bench.commit_stage(&load, &manifest).await.expect("a commit");
        assert_eq!(bench.text("SELECT n FROM raw.items").await, "[[1]]");
    });
}

suite!(
    whole_numbers_beyond_what_a_float_holds_keep_their_digits
        but not on BigQuery: "the emulator has no more than 29 digits before a point; `bigquery_warehouse::digits` has all",
    decimals_that_a_float_would_round_keep_their_digits
        but not on BigQuery: "the emulator has no more than nine digits behind a point; `bigquery_warehouse::digits` has all",
    declared_decimals_have_all_their_digits_up_to_the_last_that_a_float_holds_and_beyond,
    a_long_whole_number_among_fractions_makes_a_decimal_and_not_a_rounded_float,
    an_exponent_moves_the_point_and_loses_no_digit
        but not on BigQuery: "the emulator has no more than nine digits behind a point; `bigquery_warehouse::digits` has all",
    a_number_longer_than_38_digits_is_told_with_its_place_and_can_be_kept_as_text,
    texts_come_as_they_are,
    names_of_columns_may_hold_anything,
    names_that_no_column_can_have_are_refused,
    times_with_an_offset_become_utc_and_those_without_stay,
    texts_that_only_resemble_times_or_mix_their_kinds_stay_texts,
    declared_types_win_over_what_values_look_like,
    rows_longer_than_16_megabytes_are_loaded,
    rows_without_members_are_rows,
    rows_that_are_no_objects_are_rows,
    a_stage_may_lie_in_a_folder_whose_name_looks_like_a_pattern
);
