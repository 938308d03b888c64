{{- define "orchd.name" -}}
{{- if contains "orchd" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-orchd" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "orchd.selector" -}}
app.kubernetes.io/name: orchd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "orchd.labels" -}}
{{ include "orchd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "orchd.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "orchd.account" -}}
{{ .Values.serviceAccount.name | default (include "orchd.name" .) }}
{{- end }}

{{- define "orchd.tls" -}}
{{ .Values.tls.existingSecret | default (printf "%s-tls" (include "orchd.name" .)) }}
{{- end }}

{{- define "orchd.token" -}}
{{ .Values.token.existingSecret | default (printf "%s-token" (include "orchd.name" .)) }}
{{- end }}

{{- define "orchd.host" -}}
{{ .Values.service.host | default (printf "%s.%s.svc" (include "orchd.name" .) .Release.Namespace) }}
{{- end }}
