"""Known vulnerabilities of what a bundle installs: found in OSV data or read from a scanner's report, and judged.

    osv_data.py, osv.py   records of the OSV database, and which package they mean
    reports.py            what Trivy, Grype and OSV-Scanner wrote
    vulnerability.py      one form for all of them: aliases merged, severity by CVSS
    attested.py           a report as an in-toto statement beside the bundle
    rules.py, judge.py    `[vulnerabilities]` of `policy.toml`, and what it says about the reports of a bundle
    scanning.py           all of it: what `slipway bundle scan` calls

Nothing here asks the network, but for a feed that is named by its URL. Names are imported from the modules: `policy.py`
needs the rules and nothing else.
"""
