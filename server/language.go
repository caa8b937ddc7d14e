package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/kb"
)

// DefaultLanguage is what a tenant's texts are read in where they give no evidence of another language.
type DefaultLanguage struct {
	Language string `json:"language" example:"german"`
}

// automatic has the default language follow the documents.
const automatic = "auto"

// language registers the tenant's default language.
func (s *Server) language(op func(id, method, path, summary string) huma.Operation) {
	get := op("getLanguage", "GET", "/v1/settings/language", "Get the tenant's default language")
	get.Description = "What is set, or else the language of most documents."
	register(s, get, access.KBRead,
		func(ctx context.Context, w access.Principal, _ *struct{}) (*Response[DefaultLanguage], error) {
			l, err := s.tenant(w).Documents().Language(ctx)
			return &Response[DefaultLanguage]{DefaultLanguage{l}}, err
		})
	set := op("updateLanguage", "PUT", "/v1/settings/language", "Set the tenant's default language")
	set.Description = "Documents are read in it that neither state a language nor are evidently in one. What is " +
		"stored already stays as it was read."
	register(s, set, access.KBWrite, func(ctx context.Context, w access.Principal, in *struct {
		Body struct {
			Language string `json:"language" minLength:"1" maxLength:"40" doc:"german, de; auto: as the documents"`
		}
	}) (*Response[DefaultLanguage], error) {
		documents, language := s.tenant(w).Documents(), in.Body.Language
		if language == automatic {
			language = ""
		}
		err := documents.SetLanguage(ctx, language)
		if unknown := (*kb.LanguageError)(nil); errors.As(err, &unknown) {
			return nil, fieldProblem("body.language",
				fmt.Sprintf("it is %s, or one of %s", automatic, strings.Join(kb.Languages(), ", ")))
		} else if err != nil {
			return nil, err
		}
		l, err := documents.Language(ctx)
		return &Response[DefaultLanguage]{DefaultLanguage{l}}, err
	})
}
