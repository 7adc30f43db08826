SELECT pay_callback({id}, {success}, {amount}, {currency}, {transaction_id}) AS outcome{record}
