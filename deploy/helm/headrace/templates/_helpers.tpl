{{- define "headrace.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "headrace.labels" -}}
{{ include "headrace.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "headrace.selector" -}}
app.kubernetes.io/name: headrace
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{/* One login at the broker: `section` of the settings, `user`, and the Secret's entry for it. */}}
{{- define "headrace.login" -}}
- name: HEADRACE_{{ upper .section }}__USER
  value: {{ .user }}
- name: HEADRACE_{{ upper .section }}__PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .root.Values.broker.passwordsSecret }}
      key: NATS_PASSWORD_{{ upper .user }}
{{- end -}}

{{- define "headrace.broker" -}}
- name: HEADRACE_NATS__URL
  value: {{ .Values.broker.url | default (printf "nats://%s-nats:4222" .Release.Name) | quote }}
- name: HEADRACE_NATS__REPLICAS
  value: {{ .Values.broker.replicas | quote }}
{{- if .Values.broker.caSecret }}
- name: HEADRACE_NATS__CA
  value: /etc/headrace/broker/ca.crt
{{- end }}
{{- end -}}

{{/* What each of our containers has. */}}
{{- define "headrace.container" -}}
image: {{ include "headrace.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{ toJson .Values.securityContext }}
{{- end -}}

{{- define "headrace.mounts" -}}
- {name: data, mountPath: /data}
- {name: scratch, mountPath: /var/tmp}
- {name: scratch, mountPath: /tmp}
{{- if .Values.broker.caSecret }}
- {name: broker-ca, mountPath: /etc/headrace/broker, readOnly: true}
{{- end }}
{{- end -}}

{{- define "headrace.volumes" -}}
- name: data
  emptyDir: {}
{{- if .Values.broker.caSecret }}
- name: broker-ca
  secret: {secretName: {{ .Values.broker.caSecret }}}
{{- end }}
{{- end -}}

{{- define "headrace.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- end -}}
