// Asks cosign's own code whether it accepts a signature by a key, as `cosign verify --key` does.
//
//	cosign-verify REGISTRY/REPOSITORY@sha256:… KEY.pub
//
// Prints one verified statement a line, as base64. Exit status 1 when cosign accepts none, with its reason on stderr.
// The command-line program of cosign stands on 1,600 packages, most of them for clouds; its verification on 700.
package main

import (
	"context"
	"crypto"
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sigstore/cosign/v3/pkg/cosign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

func verify(image, keyFile string) error {
	pem, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(pem)
	if err != nil {
		return err
	}
	verifier, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return err
	}
	reference, err := name.ParseReference(image)
	if err != nil {
		return err
	}
	verified, _, err := cosign.VerifyImageAttestations(context.Background(), reference, &cosign.CheckOpts{
		SigVerifier:     verifier,
		ClaimVerifier:   cosign.IntotoSubjectClaimVerifier,
		NewBundleFormat: true,
		IgnoreTlog:      true,
	})
	if err != nil {
		return err
	}
	for _, statement := range verified {
		payload, err := statement.Payload()
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", payload)
	}
	return nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: cosign-verify REGISTRY/REPOSITORY@sha256:DIGEST KEY.pub")
		os.Exit(2)
	}
	if err := verify(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
