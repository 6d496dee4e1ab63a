package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"unio/imagestore/registry"
)

func loginCommand() *cli.Command {
	return &cli.Command{
		Name:        "login",
		Usage:       "Authenticate to a registry",
		Description: "Defaults to Docker Hub if no server is specified. What is entered is kept in docker's\nconfig.json, or in the credential helper that it names.",
		ArgsUsage:   "[SERVER]",
		Before:      maxArgs(1),
		Action:      login,
		Flags: append(registryFlags(),
			&cli.StringFlag{Name: "password", Aliases: []string{"p"}, Usage: "Password or Personal Access Token (PAT)"},
			&cli.BoolFlag{Name: "password-stdin", Usage: "Take the Password or Personal Access Token\n(PAT) from stdin"},
			&cli.StringFlag{Name: "username", Aliases: []string{"u"}, Usage: "Username"},
		),
	}
}

func logoutCommand() *cli.Command {
	return &cli.Command{
		Name:        "logout",
		Usage:       "Log out from a registry",
		Description: "If no server is specified, the default is Docker Hub.",
		ArgsUsage:   "[SERVER]",
		Before:      maxArgs(1),
		Action: func(c *cli.Context) error {
			store, err := registry.OpenCredentials()
			if err != nil {
				return err
			}
			fmt.Fprintln(envOf(c).stdout, "Removing login credentials for", shownServer(c.Args().First()))
			return store.Delete(c.Context, c.Args().First())
		},
	}
}

// shownServer is a registry as logout calls it: Docker Hub by the address that
// docker keeps its credentials under.
func shownServer(server string) string {
	if server == "" {
		return "https://index.docker.io/v1/"
	}
	return registry.ServerName(server)
}

// checkLogin refuses flags that contradict each other, in docker's words.
func checkLogin(c *cli.Context) error {
	switch {
	case c.Bool("password-stdin") && c.IsSet("password"):
		return refuse("conflicting options: cannot specify both --password and --password-stdin")
	case c.Bool("password-stdin") && !c.IsSet("username"):
		return refuse("the --password-stdin option requires --username to be set")
	case c.IsSet("username") && c.String("username") == "":
		return refuse("username is empty")
	case c.IsSet("password") && c.String("password") == "":
		return refuse("password is empty")
	}
	return nil
}

// refuse is an error about the command line that is shown as it is.
func refuse(text string) error { return plainly(errors.New(text)) }

// login asks for what is missing, lets the registry verify it and keeps it.
func login(c *cli.Context) error {
	e, server := envOf(c), c.Args().First()
	if err := checkLogin(c); err != nil {
		return err
	}
	if c.IsSet("password") {
		e.warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
	}
	store, err := registry.OpenCredentials()
	if err != nil {
		return err
	}
	client, err := registryClient(c, nil)
	if err != nil {
		return err
	}
	if !c.IsSet("username") && !c.IsSet("password") {
		done, err := loginAgain(c.Context, e, store, client, server)
		if done || err != nil {
			return err
		}
	}
	cred, err := askCredential(c, e)
	if err != nil {
		return err
	}
	if err := client.Verify(c.Context, server, cred); err != nil {
		return err
	}
	plain, err := store.Put(c.Context, server, cred)
	if err != nil {
		return err
	}
	if plain != "" {
		e.warn(fmt.Sprintf("\nWARNING! Your credentials are stored unencrypted in '%s'.\n"+
			"Configure a credential helper to remove this warning. See\n"+
			"https://docs.docker.com/go/credential-store/\n", plain))
	}
	_, err = fmt.Fprintln(e.stdout, "Login Succeeded")
	return err
}

// loginAgain verifies what is kept already. Not done: nothing is, or the
// registry does not take it any more.
func loginAgain(ctx context.Context, e *env, store *registry.Credentials, client *registry.Client, server string) (done bool, err error) {
	cred, err := store.Get(ctx, server)
	if err != nil || cred == (registry.Credential{}) {
		return false, err
	}
	fmt.Fprintf(e.stderr, "Authenticating with existing credentials... [Username: %s]\n", cred.Username)
	fmt.Fprint(e.stderr, "\n Info -> To login with a different account, run 'unio logout' followed by 'unio login'\n\n\n")
	err = client.Verify(ctx, server, cred)
	if errors.Is(err, registry.ErrLogin) {
		fmt.Fprintf(e.stderr, "Login did not succeed, error: %v\n", err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = fmt.Fprintln(e.stdout, "Login Succeeded")
	return true, err
}

// Docker's sentences, capitals and all.
const (
	noTerminal = "Cannot perform an interactive login from a non TTY device"
	noUsername = "Non-null Username Required"
	noPassword = "Password Required"
)

// askCredential takes name and secret from the flags, stdin or the terminal.
func askCredential(c *cli.Context, e *env) (registry.Credential, error) {
	cred := registry.Credential{Username: c.String("username"), Password: c.String("password")}
	if c.Bool("password-stdin") {
		const longest = 64 << 10 // bytes of a secret; tokens have a few thousand
		raw, err := io.ReadAll(io.LimitReader(e.stdin, longest))
		if err != nil {
			return cred, fmt.Errorf("read the password: %w", err)
		}
		cred.Password = strings.TrimRight(string(raw), "\r\n")
	}
	if cred.Username != "" && cred.Password != "" {
		return cred, nil
	}
	stdin, ok := e.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(stdin.Fd())) {
		return cred, errors.New(noTerminal)
	}
	return askTerminal(c.Context, e, stdin, cred)
}

func askTerminal(ctx context.Context, e *env, stdin *os.File, cred registry.Credential) (registry.Credential, error) {
	if cred.Username == "" {
		name, err := e.ask(ctx, "Username: ")
		if err != nil {
			return cred, fmt.Errorf("read the username: %w", err)
		}
		if cred.Username = strings.TrimSpace(name); cred.Username == "" {
			return cred, errors.New(noUsername)
		}
	}
	if cred.Password == "" {
		secret, err := e.askSecret(ctx, "Password: ", stdin)
		if err != nil {
			return cred, fmt.Errorf("read the password: %w", err)
		}
		if cred.Password = secret; secret == "" {
			return cred, errors.New(noPassword)
		}
	}
	return cred, nil
}
