{{/* The name of everything: the release's, with the chart's in it. */}}
{{- define "spanwatch.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What pods are selected by; must not change while a release lives. */}}
{{- define "spanwatch.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "spanwatch.labels" -}}
{{ include "spanwatch.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "spanwatch.account" -}}
{{- .Values.serviceAccount.name | default (include "spanwatch.name" .) -}}
{{- end -}}

{{/* The agent's configuration file. What JSON says of a value TOML says as well. */}}
{{- define "spanwatch.config" -}}
{{- range $key, $value := .Values.config }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- with .Values.criSocket }}
cri = {{ . | quote }}
{{- end }}
{{- if .Values.exceptions }}
exceptions = "/etc/spanwatch/config/exceptions.toml"
{{- end }}
{{- if .Values.signatures }}
signatures = "/etc/spanwatch/signatures"
{{- end }}
listen = {{ printf "%s:%d" .Values.listen.address (int .Values.listen.port) | quote }}
{{- end -}}
