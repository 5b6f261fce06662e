//! The classic text dialect: every command, every answer, every error.

use super::{Paces, Scene};

/// In an order in which each scene finds what it needs.
pub fn scenes() -> Vec<Scene> {
    let mut scenes = vec![
        Scene::text("storage", Paces::All, STORAGE),
        Scene::text("cas", Paces::All, CAS),
        Scene::text("reading", Paces::All, READING),
        Scene::text("quiet", Paces::All, QUIET),
        Scene::text("numbers", Paces::All, NUMBERS),
        Scene::text("expiry", Paces::All, EXPIRY),
        Scene::text("deletion", Paces::All, DELETION),
        Scene::text("lines", Paces::All, LINES),
        Scene::text("ill-formed storage", Paces::All, ILL_FORMED),
        Scene::text("bad data", Paces::All, BAD_DATA),
        Scene::text("keys at the limit", Paces::All, KEY_LIMITS),
        Scene::text("large values", Paces::Whole, LARGE),
        Scene::text("flush", Paces::All, FLUSH),
        Scene::text("quit", Paces::All, "set q 0 0 1|q\nget q\n@close quit"),
        Scene::text("quit behind a get", Paces::All, "@close get q|quit"),
        Scene::text("quit with arguments", Paces::All, "get q\n@close quit now"),
        Scene::text("http", Paces::Whole, "@close GET / HTTP/1.1"),
        Scene::text("endless line", Paces::Whole, "get a\n@close {z*3000}\\"),
    ];
    scenes.push(Scene::text("many keys", Paces::All, &many_keys()));
    scenes
}

fn many_keys() -> String {
    let mut script = String::new();
    for number in 0..40 {
        script += &format!("set many{number} {number} 0 3|v{number:02}\n");
    }
    let keys: Vec<String> = (0..45).map(|number| format!("many{number}")).collect();
    for verb in ["get", "gets", "gat 100", "gats 0"] {
        script += &format!("{verb} {}\n", keys.join(" "));
    }
    script
}

const STORAGE: &str = r"
    set a 0 0 5|hello
    get a
    set a 123 0 3|abc
    get a
    set a 4294967295 0 1|m
    get a
    set empty 0 0 0|
    get empty
    set binary 1 0 8|\x00\r\n\xff\r\nz\\
    get binary
    set looks 0 0 9|get a|q|
    get looks
    add a 0 0 1|x
    add fresh 7 0 2|ff
    get fresh
    replace nothing 0 0 1|x
    replace fresh 8 0 3|fff
    get fresh
    append nothing 0 0 1|x
    prepend nothing 0 0 1|x
    append fresh 99 99 2|>>
    prepend fresh 99 99 2|<<
    get fresh
    set a 0 0 2048|{w*2048}
    get a
";

const CAS: &str = r"
    @prepare set one 0 0 1|1
    @prepare set two 5 0 1|2
    @prepare set three 0 0 1|3
    @prepare set four 0 0 1|4
    @learn one
    @learn two
    @learn three
    @learn four
    cas one 3 0 2|11 {cas:one}
    cas one 3 0 2 {cas:one}|11
    gets one
    cas one 3 0 2 {cas:one}|12
    get one
    cas none 0 0 1 5|x
    cas two 0 0 1 0|x
    cas two 0 0 1 99999999|x
    cas two 0 0 1 {cas:two} noreply|n
    get two
    cas two 0 0 1 {cas:two} noreply|m
    get two
    cas three 0 0 1|x
    cas three 0 0 1 abc|x
    cas three 0 0 1 -1|x
    touch three 0
    cas three 0 0 1 {cas:three}|t
    append four 0 0 1|+
    cas four 0 0 1 {cas:four}|t
    gets one two three four
";

const READING: &str = r"
    set r1 1 0 1|1
    set r2 2 0 2|22
    get r1
    get r1 r2
    get none
    get r1 none r2
    gets r1 r2
    get r1 r1 r1
    get
    gets
    get  r1
    get r1 
    bget r1
    get r1 r2 {k*250}
    get {k*251}
    get r1 {k*251}
    get r1 r2 {k*251} r1
    mg r1 v
    get r1
";

const QUIET: &str = r"
    set n 0 0 1 noreply|1
    get n
    add n 0 0 1 noreply|2
    replace n 0 0 1 noreply|3
    get n
    append n 0 0 1 noreply|4
    prepend n 0 0 1 noreply|2
    get n
    incr n 1 noreply
    decr n 2 noreply
    get n
    touch n 100 noreply
    delete n noreply
    get n
    delete n noreply
    delete n 0 noreply
    incr n 1 noreply
    decr n 1 noreply
    touch n 1 noreply
    replace n 0 0 1 noreply|x
    append n 0 0 1 noreply|x
    set text 0 0 3 noreply|abc
    incr text 1 noreply
    incr text x noreply
    verbosity 0 noreply
    get n noreply
    set n 0 0 1 noreply |z
    get n
    set n 0 0 1 NOREPLY|y
    set n 0 0 1 nope|y
    delete n nope
    flush_all noreply
    get text
    set a 0 0 1 noreply|a|set b 0 0 1|b|set c 0 0 1 noreply|c|get a b c
    set bad 0 0 3 noreply|abcdef
    set bad x 0 3 noreply|abc
    set {k*251} 0 0 1 noreply|x
    incr {k*251} 1 noreply
    delete {k*251} noreply
";

const NUMBERS: &str = r"
    set num 0 0 2|10
    incr num 5
    decr num 6
    get num
    decr num 100
    get num
    set num 0 0 20|18446744073709551615
    incr num 1
    get num
    incr num 18446744073709551615
    incr num 18446744073709551616
    incr num -1
    incr num abc
    incr num
    incr
    decr num
    decr num 1 2 3
    incr none 1
    decr none 1
    set text 0 0 3|abc
    incr text 1
    decr text 1
    set long 0 0 21|184467440737095516150
    incr long 1
    set pad 3 0 2|10
    decr pad 1
    get pad
    incr pad 1
    get pad
    set blank 0 0 0|
    incr blank 1
    set spaces 0 0 4|  12
    incr spaces 1
    set neg 0 0 2|-5
    incr neg 1
    incr num 00007
    incr {k*251} 1
";

const EXPIRY: &str = r"
    set e 0 100 1|e
    get e
    touch e 200
    touch none 200
    touch e
    touch
    touch e abc
    touch e 100 200 300
    gat 100 e
    gats 100 e
    gat 100 e none e
    gat 100
    gat
    gats
    gat abc e
    gat 100 {k*251}
    gat 100 e {k*251}
    mg e t
    set past 0 -1 1|x
    get past
    set e2 0 0 1|x
    touch e2 -1
    get e2
    set e3 0 0 1|x
    gat -1 e3
    get e3
    set month 0 2592000 1|x
    mg month t
    set month 0 2592001 1|x
    get month
    set future 0 4000000000 1|x
    get future
    touch future 0
    mg future t
    touch {k*251} 0
";

const DELETION: &str = r"
    set d 0 0 1|d
    delete d
    delete d
    set d 0 0 1|d
    delete d 0
    set d 0 0 1|d
    delete d 1
    delete d 0 0
    delete d 0 noreply
    get d
    delete
    delete {k*250}
    delete {k*251}
    delete a b c d e
";

const LINES: &str = r"
    set l 0 0 1|l
    @empty
    get l\n\
    set l2 0 0 1\nx
    set l2 0 0 1\nx\n
    get l2\n\
    @empty  get l
    @empty   
    get  l   l2  
    GET l
    Get l
    foo
    foo bar baz
    getx l
    sett l 0 0 1|x
    \x01\x02
    get\tl
    version
    version x
    verbosity
    verbosity 0
    verbosity a
    verbosity 0 1 2
    misbehave
    debugtime p
    refresh_certs
    extstore free_memchunks 0
    {word *40}
    foo {z*1500}
    mn
    mn x y
";

const ILL_FORMED: &str = r"
    set i 0 0 1|i
    set
    set i
    set i 0
    set i 0 0
    set i 0 0 1 2 3|xx
    set i x 0 1|xx
    set i 0 x 1|xx
    set i 0 0 x|xx
    set i 0 0 -1|xx
    set i -1 0 1|x
    set i 4294967296 0 1|xx
    set i 0 0 2147483647|xx
    set i 0 99999999999999999999 1|xx
    add i 0 0|xx
    cas i 0 0 1|xx
    cas i 0 0 1 x|xx
    append i 0 x 1|xx
    set {k*251} 0 0 2|xx
    set {k*300} 0 0 2 noreply|xx
    get i
";

const BAD_DATA: &str = r"
    set b 0 0 3|old
    set b 0 0 3|longer
    get b
    set b 0 0 3|abc\nzz
    get b
    set b 0 0 3|ab|get b
    get b
    set b 0 0 1|12|get b
    add nb 0 0 1|12
    get nb
    append b 0 0 1|12
    set b 0 0 0|x
    get b
";

const KEY_LIMITS: &str = r"
    set {k*250} 1 0 3|max
    get {k*250}
    gets {k*250}
    append {k*250} 0 0 1|+
    touch {k*250} 0
    gat 0 {k*250}
    delete {k*250}
    set \xff\xfe\x80 0 0 1|x
    get \xff\xfe\x80
    set a\x01b 0 0 1|x
    get a\x01b
";

const LARGE: &str = r"
    set big 0 0 100000|{b*100000}
    get big
    set big 0 0 1000000|{c*1000000}
    get big big big
    set big 0 0 1048577|{d*1048577}
    get big
    set kept 0 0 4|kept
    add new 0 0 1048577|{d*1048577}
    replace kept 0 0 1048577|{d*1048577}
    append kept 0 0 1048577|{d*1048577}
    append kept 0 0 1048400|{d*1048400}
    get kept
    set kept 0 0 1048577 noreply|{d*1048577}
    get kept
    set kept 0 0 4|kept
";

const FLUSH: &str = r"
    set f 0 0 1|f
    flush_all 1000
    get f
    flush_all 0
    get f
    set f 0 0 1|f
    flush_all
    get f
    flush_all abc
    flush_all 1 2 3
    flush_all 1000 noreply
    flush_all 0 noreply
    get f
";
