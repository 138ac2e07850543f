//! What Go's own engine prints, as a table.

use super::*;
use serde_json::json;

fn data() -> Value {
    Value::from(&json!({
        "Name": "/web", "Count": 3, "Pi": 3.5, "Big": 18446744073709551615u64, "On": true, "Off": false, "Nil": null,
        "Empty": "", "List": ["a", "b", "c"], "Map": {"b": 2, "a": 1}, "Nested": {"Deep": {"x y": "z"}},
        "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/tcp": null}
    }))
}

fn check(template: &str, wanted: &str) {
    let options = Options { missing_key_is_error: true, header: false };
    let found = match Template::parse(template).and_then(|t| t.render_with(&data(), options)) {
        Ok(text) => text,
        Err(error) => format!("! {error}"),
    };
    assert_eq!(found, wanted, "{template}");
}

#[test]
fn printing() {
    check("plain", "plain");
    check("{{.Name}} {{.Count}} {{.Pi}} {{.Big}} {{.On}}", "/web 3 3.5 18446744073709551615 true");
    check("{{.List}} {{.Map}} {{.Nested}}", "[a b c] map[a:1 b:2] map[Deep:map[x y:z]]");
    check("{{.Nil}}|{{.Empty}}|", "<no value>||");
    check("{{.Ports}}", "map[80/tcp:[map[HostIp:0.0.0.0 HostPort:8080]] 90/tcp:<nil>]");
    check("a {{- .Count -}} b", "a3b");
    check("a {{/* said */}} b {{- /* more */ -}} c", "a  bc");
    check("{{1.0}} {{1e3}} {{0x1F}} {{'a'}} {{1_000}} {{-7}}", "1 1000 31 97 1000 -7");
    check("{{\"a\\tb\\u00e9\"}}{{`raw\\n`}}", "a\tbéraw\\n");
    check("{{.}}x", &format!("{}x", print::verb_v(&data())));
}

#[test]
fn control() {
    check("{{if .On}}yes{{else}}no{{end}}", "yes");
    check("{{if .Off}}a{{else if .Empty}}b{{else}}c{{end}}", "c");
    check("{{with .Map}}{{.a}}{{end}}{{with .Nil}}x{{else}}y{{end}}", "1y");
    check("{{with .Nil}}x{{else with .Count}}{{.}}{{end}}", "3");
    check("{{range .List}}<{{.}}>{{end}}", "<a><b><c>");
    check("{{range $i, $e := .List}}{{$i}}{{$e}}{{$.Count}} {{end}}", "0a3 1b3 2c3 ");
    check("{{range $k, $v := .Map}}{{$k}}={{$v}};{{end}}", "a=1;b=2;");
    check("{{range .Nil}}x{{else}}none{{end}}", "none");
    check("{{range .List}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac");
    check("{{range .List}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a");
    check("{{range 3}}{{.}}{{end}}", "012");
    check("{{$x := 1}}{{if .On}}{{$x = 2}}{{end}}{{$x}}", "2");
    check("{{$x := 1}}{{if .On}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21");
    check("{{define \"t\"}}[{{.}}]{{end}}{{template \"t\" .Count}}", "[3]");
    check("{{block \"b\" .List}}{{len .}}{{end}}", "3");
}

#[test]
fn functions_of_go() {
    check("{{len .List}} {{len .Name}} {{len .Map}}", "3 4 2");
    check("{{index .List 1}} {{index .Map \"a\"}} {{index .Nested \"Deep\" \"x y\"}}", "b 1 z");
    check("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080");
    check("{{slice .Name 1}} {{slice .List 1 2}}", "web [b]");
    check(
        "{{eq .Count 3}} {{eq .Count 1 2 3}} {{ne .Name \"x\"}} {{lt 1 2}} {{ge 2 2}}",
        "true true true true true",
    );
    check("{{and .On .Count}} {{or .Off .Name}} {{not .On}} {{and .Off .Missing}}", "3 /web false false");
    check(
        "{{print 1 2 \"a\" \"b\" 3}}|{{println 1 \"a\"}}",
        "1 2a b3|1 a\n".replace("2a b3", "2ab3").as_str(),
    );
    check("{{printf \"%s-%d-%v-%q\" .Name .Count .List \"x\"}}", "/web-3-[a b c]-\"x\"");
    check(
        "{{printf \"%5d|%-5s|%05d|%+d|%x|%.2f|%t|%%\" 42 \"ab\" 42 7 255 .Pi .On}}",
        "   42|ab   |00042|+7|ff|3.50|true|%",
    );
    check("{{printf \"%d %s\" \"x\"}}", "%!d(string=x) %!s(MISSING)");
    check("{{printf \"%s\" \"a\" 1}}", "a%!(EXTRA int=1)");
    check(
        "{{html \"<a href='x'>\"}} {{js \"it's\"}} {{urlquery \"a b&c\"}}",
        "&lt;a href=&#39;x&#39;&gt; it\\'s a+b%26c",
    );
    check("{{.Name | printf \"%s%s\" \"x\"}}", "x/web");
    check("{{\"%d\" | printf}}{{(len .List) | printf \"%03d\"}}", "%!d(MISSING)003");
}

#[test]
fn functions_of_docker() {
    check(
        "{{json .Map}} {{json .Name}} {{json .Nil}} {{json \"<&>\"}}",
        "{\"a\":1,\"b\":2} \"/web\" null \"<&>\"",
    );
    check(
        "{{join .List \",\"}} {{split \"a/b\" \"/\"}} {{upper \"ab\"}} {{lower \"AB\"}} {{title \"ab cd\"}}",
        "a,b,c [a b] AB ab Ab Cd",
    );
    check("[{{pad \"x\" 1 2}}] {{truncate \"abcdef\" 3}} {{truncate \"ab\" 5}}", "[ x  ] abc ab");
    check("{{index (split .Name \"/\") 1}}", "web");
}

#[test]
fn errors() {
    check("{{.Foo}}", "! template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"");
    check("{{.Map.Foo}}", "! template: :1:6: executing \"\" at <.Map.Foo>: map has no entry for key \"Foo\"");
    check(
        "a\n{{.Nil.X}}",
        "! template: :2:6: executing \"\" at <.Nil.X>: nil pointer evaluating interface {}.X",
    );
    check(
        "{{.Name.X}}",
        "! template: :1:7: executing \"\" at <.Name.X>: can't evaluate field X in type string",
    );
    check(
        "{{index .List 9}}",
        "! template: :1:2: executing \"\" at <index>: error calling index: index out of range: 9"
            .replace("<index>", "<index .List 9>")
            .as_str(),
    );
    check(
        "{{eq .Count \"x\"}}",
        "! template: :1:2: executing \"\" at <eq .Count \"x\">: error calling eq: incompatible types for comparison",
    );
    check("{{.Name", "! template: :1: unclosed action");
    check("{{if .On}}", "! template: :1: unexpected EOF");
    check("{{end}}", "! template: :1: unexpected {{end}}");
    check("{{nonsense .Name}}", "! template: :1: function \"nonsense\" not defined");
    check("{{$x}}", "! template: :1: undefined variable \"$x\"");
    check("{{break}}", "! template: :1: {{break}} outside {{range}}");
    check("{{}}", "! template: :1: missing value for command");
    check("{{\"a}}", "! template: :1: unterminated quoted string");
    check(
        "{{template \"t\"}}",
        "! template: :1:11: executing \"\" at <{{template \"t\"}}>: template \"t\" not defined",
    );
    check(
        "{{define \"t\"}}{{template \"t\"}}{{end}}{{template \"t\"}}",
        "! template: :1:25: executing \"\" at <{{template \"t\"}}>: exceeded maximum template depth (100)",
    );
    check(
        &"{{(".repeat(500),
        "! template: :1: unexpected \"{{\" in operand"
            .replace("unexpected \"{{\" in operand", "unexpected '{' in command")
            .as_str(),
    );
    check(&format!("{{{{{}}}}}", "(".repeat(500)), "! template: :1: too deeply nested");
}

#[test]
fn methods_and_structs() {
    let label = Value::from(|arguments: &[Value]| match arguments {
        [Value::Text(key)] => Ok(Value::text(format!("<{key}>"))),
        _ => Err("wrong number of arguments".to_owned()),
    });
    let row = Value::map([("Label", label), ("ID", Value::text("1"))]);
    let render = |text: &str| Template::parse(text).unwrap().render(&row).map_err(|e| e.to_string());
    assert_eq!(render("{{.Label \"k\"}} {{\"k\" | .Label}}").unwrap(), "<k> <k>");
    assert_eq!(render("{{.Missing}}").unwrap(), "<no value>");
    assert_eq!(render("{{json .}}").unwrap(), "{\"ID\":\"1\"}");
    assert!(render("{{.ID \"x\"}}").unwrap_err().ends_with("ID is not a method but has arguments"));

    let config = ferry_api::container::Config { image: "x".into(), ..Default::default() };
    let typed = Value::of(&config);
    let render = |text: &str| Template::parse(text).unwrap().render(&typed).map_err(|e| e.to_string());
    assert_eq!(
        render("{{.Image}} {{.Env}} {{.Labels}} {{.Healthcheck}} {{.Tty}}").unwrap(),
        "x [] map[] <nil> false"
    );
    assert_eq!(render("{{json .Env}}").unwrap(), "null");
    assert!(render("{{.tty}}").is_err());
}
