// The Gitea server as one program: its own command line, from its Go module.
package main

import (
	"os"

	"code.gitea.io/gitea/cmd"
	"code.gitea.io/gitea/modules/setting"

	_ "code.gitea.io/gitea/modules/markup/markdown"
)

// Set by the linker, from go.mod.
var version = "unknown"

func main() {
	setting.AppVer = version
	_ = cmd.RunMainApp(cmd.NewMainApp(cmd.AppVersion{Version: version}), os.Args...)
}
