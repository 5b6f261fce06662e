//! The meta dialect: every command, mode and flag.

use super::{Paces, Scene};

pub fn scenes() -> Vec<Scene> {
    vec![
        Scene::text("meta get", Paces::All, GET),
        Scene::text("meta set", Paces::All, SET),
        Scene::text("meta modes", Paces::All, MODES),
        Scene::text("meta cas", Paces::All, CAS),
        Scene::text("meta delete", Paces::All, DELETE),
        Scene::text("meta arithmetic", Paces::All, ARITHMETIC),
        Scene::text("meta quiet", Paces::All, QUIET),
        Scene::text("meta stale", Paces::All, STALE),
        Scene::text("meta base64", Paces::All, BASE64),
        Scene::text("meta errors", Paces::All, ERRORS),
        Scene::text("meta large", Paces::Whole, LARGE),
        Scene::text("meta debug", Paces::All, DEBUG),
    ]
}

const GET: &str = r"
    set m 5 0 3|abc
    mg m
    mg m v
    mg m s v
    mg m f s v t k
    mg m c
    mg m h l t
    mg m h
    mg m v u
    mg m O123 k v
    mg m Oabcdefghijklmnopqrstuvwxyz012345 v
    mg m P L v
    mg m Pproxy Ltoken v
    mg m v v
    mg none v
    mg none O5 k
    mg none q v
    mg m q v
    mg m T100 t
    mg m T0 t
    mg m T-1 t
    mg m
    mg viv N100 v t
    mg viv N100 v t
    mg viv v
    mg rec N5 v
    set rec 0 5 1|r
    mg rec R100 v
    mg rec R100 v
    mg m S100 v
    mg m E5 v
    mg m ?
    mg m 1
    mg m O v
";

const SET: &str = r"
    ms s 3|abc
    mg s v f t
    ms s 3 T100 F7|def
    mg s v f t
    ms s 0|
    mg s s v
    ms s 2 c k O9 P L|xy
    ms s 2 b|xy
    ms s 2 T-1|xy
    mg s
    ms s 2 T2592001|xy
    mg s
    ms s 2 F4294967295|xy
    mg s f
    ms s 2 F4294967296|xy
    ms s 2 Fx|xy
    ms s 2 Tx|xy
    ms s 2 I|xy
    ms s 2 N10|xy
    ms s 2 s|xy
    ms s 2 E77|xy
    ms s 2 k k|xy
    ms s S2|xy
    ms s 02|xy
    mg s v
    ms s 3|ab|mn
    ms s 3|abcd
    mg s v
";

const MODES: &str = r"
    ms mode 2 ME|e1
    ms mode 2 ME|e2
    mg mode v
    ms mode 2 MA|a1
    ms mode 2 MP|p1
    mg mode v
    ms mode 2 MR F5|r1
    mg mode v f
    ms mode 2 MS|s1
    ms mode 2 Mset|s2
    ms mode 2 Me|e3
    ms mode 2 Ma|a2
    ms mode 2 Mp|p2
    ms mode 2 Mr|r2
    ms mode 2 Ms|s3
    ms mode 2 MX|x1
    ms mode 2 M|x1
    ms none 2 MA|a1
    ms none 2 MP k O4|p1
    ms none 2 MR|r1
    ms none 2 MA N100|a1
    ms none 2 MP N0 T0|a1
    mg none v
    mg mode v
";

const CAS: &str = r"
    @prepare set mc1 0 0 1|1
    @prepare set mc2 0 0 1|2
    @prepare set mc3 0 0 1|3
    @prepare set mc4 0 0 1|3
    @learn mc1
    @learn mc2
    @learn mc3
    @learn mc4
    ms mc1 1 C{cas:mc1} c|a
    ms mc1 1 C{cas:mc1} c k O5|b
    ms none 1 C{cas:mc1}|b
    mg mc1 v
    md mc2 C999999 k O1
    md mc2 C{cas:mc2} k O1
    md mc2 C{cas:mc2}
    ms mc3 1 C1 I|i
    mg mc3 v c
    mg mc3 v
    ma mc4 C1
    ma mc4 C{cas:mc4} c v
    ma mc4 C{cas:mc4}
    ms mc1 1 Cx|b
    md mc1 Cx
    md mc1 C
";

const DELETE: &str = r"
    set md 0 0 1|x
    md md
    md md
    md md q
    md none k O77
    set md 0 0 1|x
    md md q k O5
    mg md
    set md 0 0 1|x
    md md I T100
    mg md v t
    mg md v t
    md md x
    md md T100
    md md I
    mg md v c
    set md 3 0 5|hello
    mg md v
    md md v
    md md P L
";

const ARITHMETIC: &str = r"
    ma n
    ma n N0
    ma n N0 J13 v
    ma n v t c k O6
    ma n D5 v
    ma n MI D2 v
    ma n M+ v
    ma n MD D3 v
    ma n M- v
    ma n Mincr v
    ma n Mdecr v
    ma n mi v
    ma n MX v
    ma n D v
    ma n Dx v
    ma n D-1 v
    ma n D18446744073709551616 v
    ma n MD D1000 v
    ma n T100 v t
    ma n T0
    ma other N100 J5 v t
    ma other q
    ma other q v
    ma none q
    ma none k O3
    set text 0 0 3|abc
    ma text
    ma text q
    ma n Jx N0
    ma n Nx
    mg n v t
";

const QUIET: &str = r"
    ms q1 1 q|1
    ms q1 1 q ME O3 k|1
    ms none 1 q MR|1
    ms none 1 q MA|1
    mg q1 q v
    mg none q v
    mg q1 q
    ma q1 q
    md q1 q
    md q1 q
    ms q1 1 q O1|1|mg q1 v q|mg nope v q O2|ma q1 q|md nope q O4|ms q1 3 q bad|abc|mg q1 v
    ms q1 2 q|toolong
    mg q1 v q k O9
    mn
";

const STALE: &str = r"
    ms st 5 T100|first
    md st I T30
    mg st v c
    mg st v
    mg st v
    get st
    ms st 6|second
    mg st v
    md st I
    mg st s f t u
    mg st v u
    touch st 0
    gat 100 st
    append st 0 0 1|+
    mg st v
    md st I
    ma st
    incr st 1
    ms st 1 ME|x
    ms st 1 MA|y
    mg st v
    md st I
    md st
    mg st v
    mg win N30 v t
    mg win N30 v t
    ms win 3 T0|won
    mg win v
";

const BASE64: &str = r"
    ms YmFzZQ== 4 b|base
    get base
    mg YmFzZQ== b v k
    mg base v k
    mg YmFzZQ== b k O5 q
    mg bm9uZQ== b k O5
    md YmFzZQ== b k
    ms AAECAwQg 3 b|raw
    mg AAECAwQg b v k s f t
    ma AAECAwQg b
    md AAECAwQg b I T10
    mg AAECAwQg b v
    md AAECAwQg b q
    ms eA0KeQ== 1 b k|x
    mg eA0KeQ== b k v
    ms eA0KeQ== 1 b k ME|x
    ma eA0KeQ== b k
    md eA0KeQ== b k O1
    ma eA0KeQ== N0 J5 b k v
    mg eA0KeQ== b k O1 T0
    md eA0KeQ== b k O1
    md eA0KeQ== b k O1
    mg eA0KeQ== b k O1
    mg eA0KRU4NCg== b k O1 N10
    md eA0KRU4NCg== b q k O1
    ms ???? 2 b|xx
    mg ???? b v
    mg YQ b v
    ms YWJj 3 k b|abc
    mn
";

const ERRORS: &str = r"
    mg
    ms
    md
    ma
    me
    mg {k*250}
    mg {k*251}
    md {k*251}
    ma {k*251}
    me {k*251}
    ms {k*251} 2|xx
    ms key
    ms key abc|xx
    ms key -1|xx
    ms key 2 !|xx
    ms key 2 Z|xx
    mg key !
    md key !
    ma key !
    mg key v v
    mg key Tx
    mg key Nx
    mg key Rx
    mg key T
    mg key a1 b2 c3 d4 e5 f6 g7 h8 i9 j10 k11 l12 m13 n14 o15 p16 q17 r18 s19 t20 u21 v22
    mx key
    mgg key v
    MG key v
    mg key\n\
    mg  key   v
    ms key 2\nxx
    mg key v\n\
";

const LARGE: &str = r"
    ms lm 100000|{b*100000}
    mg lm v
    ms lm 1048577|{d*1048577}
    mg lm v
    set lm 0 0 2|lm
    ms lm 1048577 ME|{d*1048577}
    mg lm v
    set lm 0 0 2|lm
    ms lm 1048577 MA q|{d*1048577}
    mg lm v
";

const DEBUG: &str = r"
    set dbg 9 0 3|abc
    me dbg
    me none
    me ZGJn b
    me dbg x
    me
    mn
";
