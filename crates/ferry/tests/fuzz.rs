//! The fuzz targets of this crate, fed with mutations of seeds.

extern crate self as libfuzzer_sys;

#[path = "../../../tests/fuzz/driver.rs"]
mod driver;

#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/template.rs"]
mod formats;

#[test]
fn templates_of_any_text() {
    let seeds: [&[u8]; 8] = [
        b"{{.Id}}\t{{.State.Status}}",
        b"{{range $i, $n := .Names}}{{if $i}}, {{end}}{{$n | upper}}{{else}}none{{end}}",
        b"{{json .}} {{join .Names \",\"}} {{split .Id \"2\"}} {{truncate .Id 5}} {{pad .Id 1 2}} {{title .Id}}",
        b"{{with .State}}{{.Status | printf \"%q %-5s|\"}}{{end}}{{index .Labels \"c.d\"}}{{len .Names}}",
        b"{{define \"x\"}}{{.}}{{end}}{{template \"x\" .Size}}{{block \"y\" .}}{{.On}}{{end}}",
        b"{{- /* c */ -}}{{if and (eq .Size 5) (not .None) (lt .Ratio 2.0)}}a{{else if or .On false}}b{{end}}",
        b"{{printf \"%d %x %v %T %05d %s\" .Size .Id .Labels .On 7 .Names}}{{slice .Id 1 3}}{{print 1 2 \"a\"}}",
        b"{{range .Labels}}{{break}}{{continue}}{{end}}{{$x := 1}}{{$x = 'a'}}{{$x}}{{1e3}}{{0x1F}}{{`raw`}}",
    ];
    let pieces: [&[u8]; 12] = [
        b"{{",
        b"}}",
        b"{{end}}",
        b"|",
        b"(",
        b")",
        b"{{range .Names}}",
        b"{{template \"x\" .}}",
        b"\"",
        b"$x",
        b"-9223372036854775808",
        b"%9999999d",
    ];
    driver::feed(formats::target, &seeds, &pieces);
}
