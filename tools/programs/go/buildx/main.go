// The docker CLI plugin buildx with the two drivers used here, "docker" and "remote".
//
// The plugin as released also carries drivers for Kubernetes and a cloud service; without them it needs a
// tenth fewer packages, and all that remain but a few are shared with buildkitd, built from the same go.mod.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/docker/buildx/commands"
	_ "github.com/docker/buildx/driver/docker"
	_ "github.com/docker/buildx/driver/remote"
	"github.com/docker/buildx/util/cobrautil"
	"github.com/docker/buildx/version"
	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli-plugins/metadata"
	"github.com/docker/cli/cli-plugins/plugin"
	"github.com/docker/cli/cli/command"
	solver "github.com/moby/buildkit/solver/errdefs"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto" // the codec that buildkitd's messages need
)

func main() {
	docker, err := command.NewDockerCli()
	if err == nil {
		err = run(docker)
	}
	if err != nil {
		os.Exit(report(err))
	}
}

func run(docker *command.DockerCli) error {
	if plugin.RunningStandalone() {
		return commands.NewRootCmd("buildx", false, docker).Execute()
	}
	return plugin.RunPlugin(docker, commands.NewRootCmd("buildx", true, docker), metadata.Metadata{
		SchemaVersion: "0.1.0",
		Vendor:        "built from source",
		Version:       version.Version,
	})
}

// report prints the error with the lines of the Dockerfile it is about and returns the exit code.
func report(err error) int {
	var silent cobrautil.ExitCodeError
	if errors.As(err, &silent) {
		return int(silent)
	}
	for _, source := range solver.Sources(err) {
		source.Print(os.Stderr)
	}
	fmt.Fprintln(os.Stderr, "ERROR:", err)
	var status cli.StatusError
	if errors.As(err, &status) && status.StatusCode != 0 {
		return status.StatusCode
	}
	return 1
}
