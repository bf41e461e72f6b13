/** The style of the report. Blue and orange are told apart with any colour vision; stripes and letters say the same. */
export const STYLE = `
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--line:#e1e5ea;--ink:#1b222c;--quiet:#5c6774;--kernel:#0b6cb5;--kernel-soft:#e8f2fb;
--proxy:#d97a00;--proxy-ink:#8a4b00;--proxy-soft:#fff3e0;--invalid:#6f7782;--invalid-soft:#eceef1;--warn:#6b3fa0;--warn-soft:#f3edfb;
--error:#b3261e;--error-soft:#fdecea;--link:#0b5cad;--mono:ui-monospace,"SFMono-Regular",Menlo,Consolas,"Liberation Mono",monospace}
@media (prefers-color-scheme:dark){:root{--bg:#10141a;--card:#181e26;--line:#2a323d;--ink:#e4e9f0;--quiet:#98a4b3;--kernel:#58aef0;--kernel-soft:#14283b;
--proxy:#f0a033;--proxy-ink:#f6bd6b;--proxy-soft:#33260f;--invalid:#8b95a3;--invalid-soft:#242b34;--warn:#c3a1f0;--warn-soft:#2a2138;
--error:#f28b82;--error-soft:#3a1d1b;--link:#79b8f3}}
*{box-sizing:border-box}html{scroll-padding-top:4rem}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
:focus-visible{outline:2px solid var(--link);outline-offset:2px;border-radius:3px}
main,header .in,nav .in{max-width:1180px;margin:0 auto;padding:0 24px}
header{background:var(--card);border-bottom:1px solid var(--line);padding:34px 0 28px}
header .brand{font-weight:650;letter-spacing:.02em;color:var(--quiet);font-size:13px;text-transform:uppercase}
header h1{margin:6px 0 18px;font-size:30px;line-height:1.2;font-weight:680;letter-spacing:-.015em}
.share{display:block;width:100%;height:26px;border-radius:7px;background:var(--invalid-soft)}
.legend{display:flex;flex-wrap:wrap;gap:6px 22px;margin:12px 0 0;padding:0;list-style:none;color:var(--quiet);font-size:14px}
.legend b{color:var(--ink);font-variant-numeric:tabular-nums}
.swatch{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:7px;vertical-align:-1px}
.swatch.kernel{background:var(--kernel)}.swatch.proxy{background:repeating-linear-gradient(45deg,var(--proxy) 0 4px,var(--card) 4px 6px)}
.swatch.invalid{background:radial-gradient(var(--card) 1.2px,transparent 1.6px) 0 0/5px 5px,var(--invalid)}
svg .kernel{fill:var(--kernel)}svg .proxy{fill:var(--proxy)}svg .invalid{fill:var(--invalid)}svg .stripe{fill:var(--card);opacity:.45}
nav{position:sticky;top:0;z-index:2;background:var(--card);border-bottom:1px solid var(--line)}
nav .in{display:flex;gap:22px;overflow-x:auto}nav a{padding:11px 0;color:var(--quiet);white-space:nowrap;font-size:14px}nav a:hover{color:var(--ink);text-decoration:none}
main{padding-top:28px;padding-bottom:80px}
section{margin:0 0 36px}h2{font-size:19px;font-weight:650;margin:0 0 12px;letter-spacing:-.005em}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:18px}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px 20px;overflow-x:auto}
.scroll{max-height:430px;overflow-y:auto}.scroll thead th{position:sticky;top:0;background:var(--card)}
.card h3{margin:0 0 12px;font-size:14px;font-weight:600;color:var(--quiet)}
.chart{display:block;width:100%;height:auto;font-size:13px}.chart text{fill:var(--ink)}.chart .number{fill:var(--quiet);font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;font-size:14px}th{font-weight:600;color:var(--quiet);text-align:left;white-space:nowrap}
th,td{padding:7px 12px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}tr:last-child td{border-bottom:0}
td.num,th.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}td .quiet,.quiet{color:var(--quiet)}
td button{all:unset;cursor:pointer;color:var(--link);overflow-wrap:anywhere}td button:hover{text-decoration:underline}td button:focus-visible{outline:2px solid var(--link)}
.filters{display:flex;flex-wrap:wrap;gap:10px 16px;align-items:center;margin:0 0 14px}
.filters input[type=search],.filters select{font:inherit;font-size:14px;color:inherit;background:var(--bg);border:1px solid var(--line);border-radius:8px;padding:7px 11px}
.filters input[type=search]{flex:1 1 240px;min-width:0}.filters label{display:inline-flex;align-items:center;gap:6px;font-size:14px;white-space:nowrap}
.filters select{max-width:210px}
.badge{display:inline-block;min-width:62px;text-align:center;border-radius:6px;padding:1px 8px;font-size:12.5px;font-weight:600;border:1px solid transparent}
.badge.kernel{background:var(--kernel-soft);color:var(--kernel);border-color:var(--kernel)}
.badge.proxy{background:var(--proxy-soft);color:var(--proxy-ink);border-color:var(--proxy);border-style:dashed}
.badge.invalid{background:var(--invalid-soft);color:var(--invalid);border-color:var(--invalid);border-style:dotted}
.why{margin:3px 0 0;font-size:13px;color:var(--quiet);overflow-wrap:anywhere}.code{font-family:var(--mono);font-size:.92em}
#rules td:first-child{width:84px}#rules .where{font-family:var(--mono);font-size:12.5px;overflow-wrap:anywhere}
.more{font:inherit;font-size:14px;margin-top:12px;padding:7px 16px;border-radius:8px;border:1px solid var(--line);background:var(--bg);color:var(--link);cursor:pointer}
.file{background:var(--card);border:1px solid var(--line);border-radius:12px;margin:0 0 14px;overflow:hidden}
.file summary{cursor:pointer;padding:11px 16px;font-size:14px}.path{font-family:var(--mono);font-size:13px;font-weight:600;overflow-wrap:anywhere}
.source{font:12.5px/1.6 var(--mono);border-top:1px solid var(--line);padding:8px 0;overflow-x:auto}
.l{display:flex;min-width:max-content;border-left:4px solid transparent}.l:target{outline:2px solid var(--link);outline-offset:-2px}
.n{flex:none;width:52px;padding-right:10px;text-align:right;color:var(--quiet);opacity:.7;user-select:none}
.m{flex:none;width:18px;font-weight:700;user-select:none}.l code{font:inherit;white-space:pre;padding-right:20px}
.l code b{font-weight:600;color:var(--link)}.l code i{color:var(--quiet);font-style:italic}
.l.first{box-shadow:inset 0 1px var(--line)}
.l.kernel{background:var(--kernel-soft);border-left-color:var(--kernel)}.l.kernel .m{color:var(--kernel)}
.l.proxy{background:var(--proxy-soft);border-left:4px dashed var(--proxy)}.l.proxy .m{color:var(--proxy-ink)}
.l.invalid{background:var(--invalid-soft);border-left:4px dotted var(--invalid)}.l.invalid .m{color:var(--invalid)}
.note{position:sticky;left:74px;width:fit-content;max-width:min(900px,calc(100vw - 140px));margin:4px 16px 6px 74px;padding:4px 11px;border-radius:7px;font:13px/1.45 system-ui,sans-serif;border-left:3px solid;overflow-wrap:anywhere}
.note.proxy{background:var(--card);border-color:var(--proxy);box-shadow:0 0 0 1px var(--line)}.note.warning{background:var(--warn-soft);border-color:var(--warn)}
.note.error{background:var(--error-soft);border-color:var(--error)}.note.warning .code{color:var(--warn)}.note.error .code{color:var(--error)}
.many{color:var(--quiet);white-space:nowrap}.many::before{content:"· "}
.reason{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:16px 20px;margin:0 0 14px}.reason:target{border-color:var(--link);box-shadow:0 0 0 1px var(--link)}
.reason h3{margin:0 0 6px;font-size:16px}.reason p{margin:6px 0;max-width:78ch}.reason .fix{border-left:3px solid var(--kernel);padding:2px 0 2px 12px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(380px,100%),1fr));gap:12px;margin-top:10px}
.pair h4{margin:0 0 4px;font-size:12.5px;color:var(--quiet);font-weight:600}.pair pre{margin:0;padding:10px 13px;border-radius:8px;overflow-x:auto;font:12.5px/1.55 var(--mono)}
.pair .before pre{background:var(--proxy-soft)}.pair .after pre{background:var(--kernel-soft)}
.findings{margin:0;padding:0;list-style:none;font-size:14px}.findings li{padding:7px 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}.findings li:last-child{border:0}
.tag{font-size:12.5px;font-weight:600;border-radius:6px;padding:1px 8px;margin-right:8px}.tag.warning{background:var(--warn-soft);color:var(--warn)}.tag.error{background:var(--error-soft);color:var(--error)}
footer{color:var(--quiet);font-size:13px}
@media print{nav,.filters,.more{display:none}body{background:#fff}.file,.card,.reason{break-inside:avoid}}
@media (max-width:640px){main,header .in,nav .in{padding-left:14px;padding-right:14px}header h1{font-size:24px}.note{margin-left:14px}}
`;
