// The table of requests. Rows are known by their ids, so the focus stays on one while others come
// before it; in a slot of QTable, NiceGUI makes each cell anew with each change.
export default {
  template: `
    <table class="hd-table hd-requests" role="table">
      <caption class="hd-unseen">Requests</caption>
      <thead role="rowgroup">
        <tr role="row">
          <th v-for="column in columns" :key="column.name" role="columnheader" scope="col"
            :class="{ 'hd-number': column.right }">{{ column.label }}</th>
        </tr>
      </thead>
      <tbody role="rowgroup">
        <tr v-for="row in rows" :key="row.id" role="row" @click="$emit('open', row.id)">
          <td v-for="column in columns" :key="column.name" role="cell"
            :data-label="column.label" :class="{ 'hd-number': column.right }">
            <button v-if="column.name === 'at'" type="button" class="hd-open"
              :aria-label="'Open the request of ' + time(row.at)">{{ time(row.at) }}</button>
            <span v-else-if="column.name === 'state'" :class="'hd-badge hd-' + row.tone"
              >{{ row.state }}</span>
            <template v-else>{{ row[column.name] }}</template>
          </td>
        </tr>
      </tbody>
    </table>
  `,
  props: { columns: Array, rows: Array },
  emits: ["open"],
  methods: {
    // In the zone of who looks; with the day, if it is another one.
    time(at) {
      const when = new Date(at * 1000);
      const today = when.toDateString() === new Date().toDateString();
      return today ? when.toLocaleTimeString() : when.toLocaleString();
    },
  },
};
