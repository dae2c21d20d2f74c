module slipway.dev/tools/pause

go 1.24
